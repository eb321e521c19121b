//! The README's code is the code of the example, and it runs.

use std::process::Command;

use super::Stage;

#[test]
fn the_code_of_the_readme_is_the_example() {
    let example = include_str!("../../examples/quickstart.rs");
    let readme = include_str!("../../README.md");
    let (_, from) = example.split_once("// README begins\n").unwrap();
    let (code, rest) = from.split_once("    // README leaves out\n").unwrap();
    let (_, end) = rest.split_once("    // README goes on\n").unwrap();
    let code = format!("```rust\n{code}    // ... until your service is told to stop\n{end}```\n");
    assert!(readme.contains(&code), "README.md and examples/quickstart.rs differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_the_readme_runs() {
    let stage = Stage::new("readme").await;
    let example = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/quickstart");
    let (kafka, url) = (stage.kafka_url.clone(), stage.url.clone());
    let run = move || {
        Command::new(&example)
            .env("TIDELOCK_KAFKA_BROKERS", kafka)
            .env("TIDELOCK_DATABASE_URL", url)
            .env("TIDELOCK_RELAY_NAME", "quickstart")
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("enqueued ") && text.contains("reserved 1"), "{text}");
    assert_eq!(
        stage.committed_at_least("quickstart.stock", 1).await.last().unwrap().header("ce_type"),
        Some("StockReserved")
    );
}
