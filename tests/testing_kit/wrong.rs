//! Handlers that break the contract, each in another way.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

/// Keeps the balance of all accounts in itself: forgotten when the process dies.
struct InItself(AtomicI64);

#[async_trait]
impl Handler<Sqlite> for InItself {
    type Event = Deposit;

    async fn handle(
        &self,
        message: &Message<Deposit>,
        context: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        let Deposit { account, cents } = message.event.clone();
        let total = self.0.fetch_add(cents, Ordering::SeqCst) + cents;
        let set = "INSERT INTO account VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET balance = $2";
        sqlx::query(set).bind(account).bind(total).execute(context.connection()).await?;
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn one_that_remembers_is_found_where_its_process_dies() {
    let failure = found(|| InItself(AtomicI64::new(0))).await;
    let text = failure.to_string();
    assert!(failure.point().is_some(), "{text}");
    for part in ["crash point P", "the effect on the database differs", "crash-free: [(\"ann\", 65)", "here:"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(format!("{failure:?}"), text);
}

static OUTSIDE: AtomicI64 = AtomicI64::new(0);

/// Counts in a static, as another one would call a service.
struct Outside;

#[async_trait]
impl Handler<Sqlite> for Outside {
    type Event = Deposit;

    async fn handle(&self, _: &Message<Deposit>, _: &mut Context<'_, Sqlite>) -> Result<Outcome, BoxError> {
        OUTSIDE.fetch_add(1, Ordering::SeqCst);
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn one_with_an_effect_outside_of_its_transaction_is_found_where_it_runs_twice() {
    let database = async || {
        OUTSIDE.store(0, Ordering::SeqCst);
        fresh().await
    };
    let failure = CrashPoints::new(database, || Processor::new("bank").handle(Outside))
        .effect(async |_| Ok(OUTSIDE.load(Ordering::SeqCst)))
        .messages(&deposits())
        .run()
        .await
        .unwrap_err();
    let text = failure.to_string();
    assert!(text.starts_with("crash point P6 (killed, hit 1): the effect on the database differs"), "{text}");
    assert!(text.contains("crash-free: 5") && text.contains("here:       6"), "{text}");
}

struct AtRandom;

#[async_trait]
impl Handler<Sqlite> for AtRandom {
    type Event = Deposit;

    async fn handle(
        &self,
        message: &Message<Deposit>,
        context: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        let account = message.event.account.clone();
        context.emit(&Statement { account, balance: fastrand::i64(..) })?;
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn one_that_emits_at_random_is_told_apart() {
    let failure = found(|| AtRandom).await;
    let text = failure.to_string();
    assert!(failure.point().is_none(), "{text}");
    assert!(
        text.contains("without a crash: two runs differ") && text.contains("what was emitted differs"),
        "{text}"
    );
    assert!(text.contains("statements key ann payload {\"account\":\"ann\",\"balance\":"), "{text}");
}

/// Says in its message how often the process has tried.
struct ByAttempt(AtomicI64);

#[async_trait]
impl Handler<Sqlite> for ByAttempt {
    type Event = Deposit;

    async fn handle(
        &self,
        message: &Message<Deposit>,
        context: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        deposit(context.connection(), &message.event).await?;
        let balance = self.0.fetch_add(1, Ordering::SeqCst);
        context.emit(&Statement { account: message.event.account.clone(), balance })?;
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn one_whose_messages_depend_on_the_execution_is_found_though_its_effect_is_right() {
    let failure = found(|| ByAttempt(AtomicI64::new(0))).await;
    let text = failure.to_string();
    assert!(failure.point().is_some() && text.contains("what was emitted differs"), "{text}");
    assert!(
        text.contains("missing here:\n    statements key") && text.contains("only here:\n    statements key"),
        "{text}"
    );
}

/// Ends the transaction that it was given.
struct Commits;

#[async_trait]
impl Handler<Sqlite> for Commits {
    type Event = Deposit;

    async fn handle(
        &self,
        message: &Message<Deposit>,
        context: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        deposit(context.connection(), &message.event).await?;
        let _ = sqlx::raw_sql("COMMIT").execute(context.connection()).await;
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn one_that_commits_does_not_get_far() {
    let failure = found(|| Commits).await;
    let text = failure.to_string();
    assert!(text.starts_with("without a crash: failed 12 times in a row"), "{text}");
    assert!(text.contains("the transaction was ended"), "{text}");
}

struct Panics;

#[async_trait]
impl Handler<Sqlite> for Panics {
    type Event = Deposit;

    async fn handle(&self, _: &Message<Deposit>, _: &mut Context<'_, Sqlite>) -> Result<Outcome, BoxError> {
        panic!("no such account")
    }
}

#[tokio::test]
async fn one_that_panics_is_quoted() {
    let text = found(|| Panics).await.to_string();
    assert!(text.contains("the handler panicked: no such account"), "{text}");
}

#[tokio::test]
async fn a_run_without_messages_and_one_for_nobody_are_errors() {
    let kit = || CrashPoints::new(fresh, || Processor::new("bank").handle(Commits));
    let nothing = kit().run().await.unwrap_err();
    assert_eq!(nothing.to_string(), "without a crash: there is no message");
    let statement = Statement { account: "ann".to_owned(), balance: 1 };
    let nobody = kit().message(&statement).run().await.unwrap_err();
    assert!(nobody.to_string().contains("topic \"statements\", which no handler reads"), "{nobody}");
}
