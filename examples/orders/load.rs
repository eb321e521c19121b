//! Places orders by itself, waits until all are settled, verifies.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use futures_util::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tidelock::{health::State, prelude::*};

use crate::{
    events::Line,
    options::Options,
    orders::{self, Book, OrderRequest, Refusal},
    payment,
    shop::Shop,
    verify,
    verify_topics::Topics,
};

/// How often to look whether something moved.
const LOOK: Duration = Duration::from_millis(250);
/// The wait before an order is placed again after a failure, as a patient client of the HTTP interface would.
const AGAIN: Duration = Duration::from_millis(500);

/// The whole load; answers whether everything was as it should be.
pub(crate) async fn run<D: Shop>(
    options: &Options,
    count: u64,
    database: &D,
    pipeline: &Pipeline,
    topics: &Topics,
) -> Result<bool, BoxError> {
    tokio::select! {
        placed = place_all(options, count, database) => placed?,
        why = gave_up(pipeline) => return Err(why),
    }
    let settled = wait_until_settled(options.patience(), database, pipeline).await;
    if let Err(reason) = &settled {
        eprintln!("orders: {reason}");
    }
    Ok(verify::run(database, topics).await? && settled.is_ok())
}

/// Places what is missing of `count` orders: their idempotency keys say which are there already, so a load that was
/// killed goes on where it was, and the order whose answer was lost is not placed twice.
async fn place_all<D: Shop>(options: &Options, count: u64, database: &D) -> Result<(), BoxError> {
    let key = |number: u64| format!("{}-{number}", options.load_id);
    let present = database.reading().await?.keys(&format!("{}-", options.load_id)).await?;
    let missing: Vec<u64> = (1..=count).filter(|number| !present.contains(&key(*number))).collect();
    println!("placing {} orders, {} are there", missing.len(), present.len());
    let bar = progress("placed", count);
    bar.set_position(count - missing.len() as u64);
    let start = Instant::now();
    let mut outcomes = stream::iter(missing.iter().map(|number| async {
        let deadline = Instant::now() + options.patience();
        let placed = place(database, order(*number), &key(*number), deadline).await;
        bar.inc(1);
        placed
    }))
    .buffer_unordered(options.writers());
    while let Some(outcome) = outcomes.next().await {
        outcome?;
    }
    drop(outcomes);
    bar.finish_and_clear();
    println!("placed {} orders in {:.1} s", missing.len(), start.elapsed().as_secs_f64());
    Ok(())
}

/// Returns when a part of the pipeline has given up: more orders would help nobody.
async fn gave_up(pipeline: &Pipeline) -> BoxError {
    loop {
        if let Err(why) = alive(pipeline) {
            return why;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn alive(pipeline: &Pipeline) -> Result<(), BoxError> {
    for (component, state) in pipeline.health() {
        if let State::Failed(why) = state {
            return Err(format!(
                "{component} gave up: {why}. A log and a database that were used with others do not fit together: take both \
                 new (--data names the folder of the embedded ones)"
            )
            .into());
        }
    }
    Ok(())
}

async fn place<D: Shop>(
    database: &D,
    request: OrderRequest,
    key: &str,
    deadline: Instant,
) -> Result<(), BoxError> {
    loop {
        match orders::place(database, request.clone(), Some(key)).await {
            Ok(_) => return Ok(()),
            Err(Refusal::Request(sentence)) => return Err(sentence.into()),
            Err(Refusal::Failure(error)) if Instant::now() > deadline => return Err(error),
            Err(Refusal::Failure(error)) => {
                tracing::warn!(%error, key, "not placed, trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// The same order for the same number, in every run: twenty of each customer, one in ten of the one who cannot pay.
fn order(number: u64) -> OrderRequest {
    const PLENTY: [&str; 7] = ["anchor", "buoy", "compass", "flag", "lantern", "rope", "sail"];
    let mut random = fastrand::Rng::with_seed(number);
    let articles = random.usize(1..=3);
    let mut skus = random.choose_multiple(PLENTY, articles);
    if random.u8(..20) == 0 {
        skus.push("sextant");
    }
    OrderRequest {
        customer: match random.u8(..10) {
            0 => payment::BROKE.to_owned(),
            _ => format!("customer-{}", number / 20),
        },
        lines: skus
            .into_iter()
            .map(|sku| Line { sku: sku.to_owned(), quantity: random.i64(1..=3) })
            .collect(),
    }
}

/// Waits until nothing is on its way any more: every order and every piece of stock has come to its end.
async fn wait_until_settled<D: Shop>(
    patience: Duration,
    database: &D,
    pipeline: &Pipeline,
) -> Result<(), BoxError> {
    let start = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    let mut last = verify::Motion::default();
    let mut moved = Instant::now();
    loop {
        alive(pipeline)?;
        match verify::Motion::look(database).await {
            Ok(now) => {
                let bar = bar.get_or_insert_with(|| progress("settled", now.orders()));
                bar.set_position(now.settled());
                if now.is_over() {
                    bar.finish_and_clear();
                    println!(
                        "settled {} orders in {:.1} s more",
                        now.settled(),
                        start.elapsed().as_secs_f64()
                    );
                    return Ok(());
                }
                if now != last {
                    moved = Instant::now();
                    last = now;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look at the orders now"),
        }
        if moved.elapsed() > patience {
            let not_ready: Vec<String> = pipeline
                .health()
                .into_iter()
                .filter(|(_, state)| *state != State::Ready)
                .map(|(component, state)| format!("{component} is {state:?}"))
                .collect();
            let waits = format!("{} of {} orders are settled", last.settled(), last.orders());
            return Err(format!("nothing moved for {patience:?}: {waits}; {}", not_ready.join(", ")).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn progress(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {rate} {elapsed}");
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    ProgressBar::new(length)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate))
        .with_message(what)
}
