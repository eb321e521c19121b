//! What is right, as a broker shows it: aborted attempts, control records, a watch.

use super::{Class, PARTITIONS, Stage, found, sent, unique, until};
use crate::witness;
use tidelock_lab::Lab;

/// Transactions with an aborted attempt before each; everything handled.
async fn run(stage: &mut Stage) {
    for _ in 0..5 {
        let all = stage.enqueue(8).await;
        let mut aborted = stage.producer().await;
        sent(&mut *aborted, stage.inputs(&all)).await;
        aborted.abort().await;
        stage.publish(stage.inputs(&all)).await;
        stage.handle(&all).await;
        let mut aborted = stage.producer().await;
        sent(&mut *aborted, stage.outputs(&all[..3])).await;
        aborted.abort().await;
        stage.publish(stage.outputs(&all)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_run_is_clean() {
    let mut stage = Stage::new().await;
    let watch = stage.watch(&unique("group"));
    run(&mut stage).await;
    stage.finish(watch).await;
    let history = [
        r#"{"t":1000,"event":"fault","id":1,"class":"none","what":"nobody","allows_progress":true,"within_ms":5}"#,
        r#"{"t":2000,"event":"healed","id":1}"#,
    ];
    std::fs::write(stage.files.join("history.jsonl"), history.join("\n")).unwrap();
    let report = stage.judge().await;
    println!("{report}");
    assert!(report.clean, "{report}");
    let topics: Vec<_> = report.figures.topics.iter().map(|counts| (counts.seen, counts.hidden)).collect();
    assert_eq!(topics, [(40, 40), (40, 15)], "{report}");
    assert_eq!((report.figures.ledger, report.figures.effects), (40, 40));
    assert!(report.faults[0].recovery_ms.is_some_and(|ms| ms > 1_000_000), "{report}");
    assert!(report.notes.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_watch_and_without_tables_it_is_clean_as_well() {
    let mut stage = Stage::new().await;
    run(&mut stage).await;
    assert!(stage.judge().await.clean);
    let mut options = stage.options();
    options.tables = None;
    let report =
        tokio::task::spawn_blocking(move || tidelock_checker::judge(&options)).await.unwrap().unwrap();
    assert!(report.clean, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_goes_backwards_is_noticed() {
    let mut stage = Stage::new().await;
    let group = unique("group");
    run(&mut stage).await;
    let watch = stage.watch(&group);
    until("the group is heard", || watch.offsets() > 0).await;
    for offset in [9, 7, 8] {
        let (group, topic) = (group.clone(), stage.input.clone());
        let before = watch.offsets();
        let commit = move || witness::commit_offset(&Lab::shared().kafka_url(), &group, &topic, 1, offset);
        tokio::task::spawn_blocking(commit).await.unwrap();
        until("the offset is heard", || watch.offsets() > before).await;
    }
    until("the records are read", || watch.heard() >= 80).await;
    stage.finish(watch).await;
    let report = stage.judge().await;
    assert_eq!(found(&report), [(Class::Backwards, Vec::new())], "{report}");
    let text = &report.verdict(Class::Backwards).first[0].text;
    let expected = format!("during the run: group {group} {}[1] went from 9 to 7 (at ", stage.input);
    assert!(text.starts_with(&expected), "{text}");
    const { assert!(PARTITIONS > 1) };
}
