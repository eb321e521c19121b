//! The contract of a database.

use std::collections::HashSet;

use sqlx::Database as Sqlx;
use tidelock::{
    commit::Commit,
    database::{
        Advance, Advanced, Batch, Database, Enqueue, FenceKey, HeldKey, QuarantineEntry, Quarantined,
        Reader as _, Shard, Source, Unit as _,
    },
    error::Result,
    message::MessageId,
    outbox::Outgoing,
};

mod claims;
mod cleanup;
mod enqueue;
mod fences;
mod inbox;
mod outputs;
mod positions;
pub(super) mod postgres;
mod quarantine;
mod reading;
mod setup;
pub(super) mod sqlite;
mod units;

pub(crate) use enqueue::made;

/// Every clause, by subject; `$then` is what is to be made of them.
macro_rules! database_clauses {
    ($then:ident) => {
        $then! {
            setup {
                ten_at_once_make_the_tables_once,
                a_database_without_the_tables_is_refused,
                a_migrated_database_will_do,
                the_number_of_shards_is_fixed_at_the_first_start,
                a_shard_is_started_once_it_is_marked,
            }
            fences {
                the_first_start_is_recorded_once,
                the_id_of_the_topic_is_noted_once,
                a_fence_is_inserted_if_absent,
                a_lost_fence_is_noticed,
                fences_of_many_partitions_at_once,
                an_advance_writes_the_whole_row,
                another_offset_or_no_row_is_not_passed,
                one_of_two_owners_passes,
            }
            inbox {
                it_answers_what_a_group_had_before,
                what_is_retracted_is_new_to_a_later_transaction,
                the_same_ids_at_the_same_time_are_new_once,
                old_entries_of_one_group_are_forgotten,
            }
            units {
                a_commit_is_there_for_the_next_process,
                a_unit_without_any_statement_commits,
                what_is_rolled_back_or_dropped_was_never_there,
                a_savepoint_of_a_handler_is_its_own_affair,
                a_failed_statement_leaves_no_half_batch,
                a_ruined_transaction_is_never_committed,
                what_is_refused_at_commit_is_aborted,
                a_handler_that_ends_the_transaction_is_noticed,
            }
            enqueue {
                a_message_comes_back_with_everything_it_is,
                an_event_comes_with_its_type_and_its_key,
                many_keep_their_order_and_their_ids,
                what_is_rolled_back_is_never_read,
                a_ruined_transaction_does_not_report_success,
                a_transaction_that_was_ended_enqueues_nothing,
                a_commit_wakes_the_relay,
            }
            reading {
                nothing_new_is_nothing,
                rows_come_in_the_order_of_their_commits,
                an_open_transaction_is_not_waited_for_and_not_lost,
                parts_and_restarts_give_every_row_once,
                a_new_reader_goes_on_where_the_position_stands,
                numbers_go_on_when_everything_was_deleted,
                shards_share_the_rows_out_by_key,
            }
            positions {
                the_position_of_another_database_is_refused,
                bytes_that_are_no_position_are_refused,
                what_one_database_published_is_not_deleted_in_another,
            }
            cleanup {
                a_batch_deletes_its_rows_and_no_others,
                a_reader_sweeps_what_its_position_has_passed,
                the_origin_has_passed_nothing,
                one_shard_never_deletes_rows_of_another,
            }
            claims {
                a_claim_raises_the_epoch_of_its_shard,
                an_older_claim_writes_nothing,
            }
            quarantine {
                what_is_proposed_counts_once_a_position_names_the_attempt,
                what_is_held_stays_whatever_positions_name,
                a_release_takes_the_oldest_first_and_the_whole_key_in_the_end,
                a_release_of_large_messages_takes_as_many_as_fit,
                a_release_that_was_not_committed_is_still_asked_for,
                a_release_that_was_refused_again_is_no_longer_asked_for,
                entries_without_a_key_stand_alone,
                each_shard_settles_and_takes_its_own,
            }
            outputs {
                they_move_only_while_the_row_stands_where_it_was,
                a_verdict_over_other_outputs_moves_nothing,
                what_another_one_claimed_is_not_moved,
                one_of_two_claims_comes_first,
                an_output_holds_nothing_of_the_outbox_and_is_released_by_the_relay,
                an_output_and_the_outboxs_messages_of_one_key_are_released_together,
                later_outputs_wait_behind_those_of_their_key,
                what_a_unit_holds_back_is_rolled_back_with_it,
                messages_of_the_outbox_hold_no_output,
                outputs_that_come_during_a_release_follow_it,
                a_release_ends_after_the_unit_that_saw_its_key_held,
                a_key_keeps_its_order_through_batches_and_releases,
            }
        }
    };
}
use database_clauses;

const ALL: Shard = Shard { index: 0, count: 1 };

type Connection<U> = <<<U as UnderTest>::Own as Enqueue>::Driver as Sqlx>::Connection;
type Unit<U> = <<U as UnderTest>::Own as Database>::Unit;
type Reader<U> = <<U as UnderTest>::Own as Source>::Reader;
type Rows<U> = Batch<<<U as UnderTest>::Own as Source>::Published>;

/// A database that is put to the test, one of one's own. Its statements are SQL that both a handler and a service may
/// write.
pub(super) trait UnderTest: Sized {
    /// The implementation.
    type Own: Database<Connection = Connection<Self>> + Source + Enqueue;

    /// What the names of the framework's tables begin with.
    const PREFIX: &str;

    /// A statement that fails and undoes its whole transaction.
    const RUIN: &str;

    /// An empty one without the framework's tables.
    async fn bare() -> Self;

    /// The implementation, as the process of the test has it.
    fn own(&self) -> &Self::Own;

    /// The same database, as another process has it.
    async fn another(&self) -> Self::Own;

    /// A transaction of the service's own, without the framework.
    async fn of_the_service(&self) -> sqlx::Transaction<'static, <Self::Own as Enqueue>::Driver>;

    /// Makes the framework's tables.
    async fn migrate(own: &Self::Own) -> Result<()>;

    /// Runs statements.
    async fn run(connection: &mut Connection<Self>, statements: &str) -> Result<(), sqlx::Error>;

    /// How many rows that table has.
    async fn count(&self, table: &str) -> i64;

    /// The quarantine, as people see it.
    async fn entries(&self) -> Vec<QuarantineEntry>;

    /// Asks for a release, as people do.
    async fn release(&self, id: MessageId) -> Result<u64>;

    /// With the framework's tables, a fence of the first partition at 0, and a table `effect`.
    async fn new() -> Self {
        let under = Self::bare().await;
        Self::migrate(under.own()).await.unwrap();
        under.own().first_start(&key(0), 1).await.unwrap();
        under.own().insert_fence(&key(0), 0, "first").await.unwrap();
        under.execute("CREATE TABLE effect (n int NOT NULL)").await;
        under
    }

    /// Commits statements as a service does.
    async fn execute(&self, statements: &str) {
        let mut transaction = self.own().begin_business().await.unwrap();
        Self::run(&mut transaction, statements).await.unwrap();
        self.own().commit_business(transaction, &[]).await.unwrap();
    }

    /// Commits messages with these payloads, one after the other in one transaction.
    async fn commit(&self, payloads: &[String]) {
        let messages: Vec<Outgoing> = payloads.iter().map(|payload| message("key", payload)).collect();
        let transaction = self.own().begin_business().await.unwrap();
        self.own().commit_business(transaction, &messages).await.unwrap();
    }

    async fn commit_one(&self, payload: &str) {
        self.commit(&[payload.to_owned()]).await;
    }

    async fn start(&self) -> Reader<Self> {
        self.start_at(&self.own().origin().await.unwrap()).await
    }

    async fn start_at(&self, position: &[u8]) -> Reader<Self> {
        self.own().reader(ALL, position).await.unwrap()
    }

    /// What stands in the outbox, in its order.
    async fn outbox(&self) -> Vec<String> {
        rest::<Self>(&mut self.start().await).await
    }

    /// A unit with an effect and the step from 0 to 1.
    async fn ready(&self) -> Unit<Self> {
        let mut unit = self.own().begin().await.unwrap();
        effect::<Self>(&mut unit).await;
        assert!(advance::<Self>(&mut unit, 0, 1).await.unwrap());
        unit
    }

    async fn next_offset(&self) -> i64 {
        self.own().fence(&key(0)).await.unwrap().unwrap().next_offset
    }

    /// What a unit of [`ready`](Self::ready) did: everything or nothing.
    async fn done(&self, all: bool) {
        let found = (self.next_offset().await, self.count("effect").await);
        assert_eq!(found, (i64::from(all), i64::from(all)));
    }

    /// Puts messages into the quarantine for good.
    async fn hold(&self, messages: &[Quarantined]) {
        let (claim, attempt) = (self.own().claim(ALL).await.unwrap(), uuid::Uuid::new_v4());
        self.own().propose(claim, attempt, messages).await.unwrap();
        self.own().settle_quarantine(claim, Some(attempt)).await.unwrap();
    }

    async fn settle(&self, attempt: Option<uuid::Uuid>) -> u64 {
        let claim = self.own().claim(ALL).await.unwrap();
        self.own().settle_quarantine(claim, attempt).await.unwrap()
    }

    async fn reasons(&self) -> Vec<String> {
        self.entries().await.into_iter().map(|entry| entry.reason).collect()
    }

    async fn take(&self, attempt: uuid::Uuid, limit: usize) -> Vec<String> {
        let claim = self.own().claim(ALL).await.unwrap();
        let taken = self.own().take_released(claim, attempt, limit).await.unwrap();
        assert!(taken.is_sorted_by_key(|each| each.entry));
        taken.into_iter().map(|each| each.message.reason).collect()
    }
}

fn key(partition: i32) -> FenceKey {
    FenceKey { group: "group".into(), topic: "topic".into(), partition }
}

fn message(key: &'static str, payload: &str) -> Outgoing {
    Outgoing::raw("t", key, Some(payload.to_owned().into()))
}

fn numbers(from: i32, to: i32) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
}

async fn effect<U: UnderTest>(unit: &mut Unit<U>) {
    U::run(unit.connection(), "INSERT INTO effect VALUES (1)").await.unwrap();
}

async fn advance<U: UnderTest>(unit: &mut Unit<U>, from: i64, to: i64) -> Result<bool> {
    let key = key(0);
    unit.advance(Advance { key: &key, from, to, pending: Default::default(), owner: "owner" })
        .await
        .map(|advanced| advanced != Advanced::Stale)
}

fn committed(outcome: Commit) {
    assert!(matches!(outcome, Commit::Committed), "{outcome:?}");
}

fn texts<P>(batch: &Batch<P>) -> Vec<String> {
    let payloads = batch.rows.iter().map(|row| row.payload.as_deref().unwrap_or_default());
    payloads.map(|payload| String::from_utf8(payload.to_vec()).unwrap()).collect()
}

/// The next batch, once it is durable.
async fn next<U: UnderTest>(reader: &mut Reader<U>, rows: usize) -> Option<Rows<U>> {
    let batch = reader.read(rows).await.unwrap();
    reader.durable().await.unwrap();
    batch
}

/// The payloads of everything that is still to be read.
async fn rest<U: UnderTest>(reader: &mut Reader<U>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(batch) = next::<U>(reader, 1_000).await {
        all.extend(texts(&batch));
    }
    all
}

fn refused(key: Option<&'static str>, reason: &str) -> Quarantined {
    Quarantined {
        id: MessageId::new(),
        topic: "topic".into(),
        key: key.map(Into::into),
        record: format!("record of {reason}").into(),
        reason: reason.to_owned(),
    }
}

fn held(keys: &[&'static str]) -> HashSet<HeldKey> {
    keys.iter().map(|key| HeldKey { topic: "topic".into(), key: (*key).into() }).collect()
}
