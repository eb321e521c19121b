//! What is wrong, made on a broker: torn and open transactions, copies, strangers, things that are not there.

use tidelock_lab::Lab;

use super::{Class, Stage, found, sent, unique};
use crate::witness::{self, Sent};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_lost_and_twice() {
    let mut stage = Stage::new().await;
    let all = stage.enqueue(8).await;
    let watch = stage.watch(&unique("group"));
    stage.handle(&all).await;
    stage.publish(stage.outputs(&all)).await;
    // Message 3 is only in a transaction that was aborted, 8 nowhere, and 5 came twice.
    let mut aborted = stage.producer().await;
    sent(&mut *aborted, stage.inputs(&all[2..3])).await;
    aborted.abort().await;
    stage.publish(stage.inputs(&all[..2])).await;
    stage.publish(stage.inputs(&all[3..7])).await;
    stage.publish(stage.inputs(&all[4..5])).await;
    stage.finish(watch).await;
    let report = stage.judge().await;
    let named = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [
        (Class::Lost, named(&["1/3", "1/8"])),
        (Class::Duplicate, named(&["1/5"])),
        (Class::Torn, named(&["1/1"])),
    ];
    assert_eq!(found(&report), expected, "{report}");
    let lost = &report.verdict(Class::Lost).first;
    assert!(lost[0].place.is_some() && lost[1].place.is_none(), "{report}");
    assert!(report.verdict(Class::Duplicate).first[0].text.contains("also at"), "{report}");
    let text = report.to_string();
    assert!(text.contains("1/3: in the ledger, but not in the topic; hidden"), "{text}");
    assert!(text.ends_with("WRONG"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_is_named_by_its_first_message() {
    let mut stage = Stage::new().await;
    let mut all = stage.enqueue(5).await;
    stage.handle(&all).await;
    stage.publish(stage.inputs(&all)).await;
    stage.publish(stage.outputs(&all)).await;
    let more = stage.enqueue(5).await;
    stage.handle(&more).await;
    let mut open = stage.producer().await;
    sent(&mut *open, stage.inputs(&more[..1])).await;
    stage.publish(stage.outputs(&more)).await;
    all.extend(more);
    let report = stage.judge().await;
    let lost = all[5..].iter().map(|said| format!("1/{}", said.seq)).collect();
    assert_eq!(found(&report), [(Class::Lost, lost), (Class::Open, vec!["1/6".into()])], "{report}");
    let (lost, open_at) = (&report.verdict(Class::Lost).first[0], &report.verdict(Class::Open).first[0]);
    assert_eq!(lost.place, open_at.place, "{report}");
    open.abort().await;
    stage.publish(stage.inputs(&all[5..])).await;
    let report = stage.judge().await;
    assert!(report.clean && report.figures.topics[0].hidden == 1, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_foreign_unless_allowed() {
    let mut stage = Stage::new().await;
    let all = stage.enqueue(5).await;
    stage.handle(&all).await;
    stage.publish(stage.inputs(&all)).await;
    stage.publish(stage.outputs(&all)).await;
    let topic = stage.input.clone();
    let stranger = Sent { key: "key 1".into(), payload: "hello".into(), headers: Vec::new() };
    let write = move || witness::write(&Lab::shared().kafka_url(), &topic, &[stranger]);
    tokio::task::spawn_blocking(write).await.unwrap();
    let report = stage.judge().await;
    assert_eq!(found(&report), [(Class::Foreign, Vec::new())], "{report}");
    let mut options = stage.options();
    options.foreign_allowed = true;
    let report =
        tokio::task::spawn_blocking(move || tidelock_checker::judge(&options)).await.unwrap().unwrap();
    assert!(report.clean && report.figures.foreign == 1, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_cannot_be_judged() {
    let stage = Stage::new().await;
    let mut options = stage.options();
    options.kafka.patience = std::time::Duration::from_secs(1);
    options.inputs = vec!["nowhere".into()];
    let error = judge(options).await;
    assert!(error.starts_with("the partitions of nowhere: "), "{error}");
    let mut options = stage.options();
    options.tables.as_mut().unwrap().ledger = "SELECT 1, 2".into();
    let error = judge(options).await;
    assert!(error.starts_with("query \"SELECT 1, 2\": "), "{error}");
    let mut options = stage.options();
    options.tables.as_mut().unwrap().ledger = "SELECT 1, -2, 3, 4, 5, 6".into();
    let error = judge(options).await;
    assert!(error.contains("column 2 holds -2; wanted producer, seq"), "{error}");
}

async fn judge(options: tidelock_checker::Options) -> String {
    let report = tokio::task::spawn_blocking(move || tidelock_checker::judge(&options)).await.unwrap();
    report.unwrap_err().to_string()
}
