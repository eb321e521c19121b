//! The handler under test: one row and some copies for each message, and trouble on demand.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use tidelock::{
    database::postgres::Postgres,
    error::{BoxError, Result as Done},
    event::Event,
    handler::{Context, Handler, Outcome},
    message::{Headers, Key, Message},
};
use tidelock_campaign::{
    identity::{HEADER, Identity, copies},
    tables::TALLIES,
    trouble::{Kind, Trouble},
};

/// The longest a handler hangs.
const HANG: Duration = Duration::from_secs(3);
/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(2);
const CRAWL: Duration = Duration::from_millis(200);

/// The names of the topics of this process.
pub(crate) static TOPICS: OnceLock<(String, String)> = OnceLock::new();

fn topics() -> (&'static str, &'static str) {
    TOPICS.get().map_or(("", ""), |(input, output)| (input, output))
}

macro_rules! parcel {
    ($(#[$doc:meta])* $name:ident, $side:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(crate) struct $name {
            pub(crate) key: Option<Bytes>,
            pub(crate) payload: Option<Bytes>,
        }

        impl Event for $name {
            const TYPE: &'static str = "Parcel";
            const TOPIC: &'static str = "";
            const CONTENT_TYPE: &'static str = "application/octet-stream";

            fn topic() -> &'static str {
                topics().$side
            }

            fn key(&self) -> Key {
                self.key.clone().into()
            }

            fn encode(&self) -> Done<Bytes> {
                Ok(self.payload.clone().unwrap_or_default())
            }

            fn decode(payload: Option<&[u8]>) -> Done<Self> {
                Ok(Self { key: None, payload: payload.map(Bytes::copy_from_slice) })
            }
        }
    };
}

parcel! {
    /// What goes in: any bytes.
    Inbound, 0
}
parcel! {
    /// What comes out: the same bytes.
    Outbound, 1
}

/// Writes one row per execution that takes effect, and emits the copies.
pub(crate) struct Copier {
    directory: PathBuf,
    /// What enters an effect.
    insert: String,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Copier {
    /// Looks for trouble in `directory` for as long as the process lives.
    pub(crate) fn new(directory: PathBuf, effects: &str) -> Self {
        let insert = format!("INSERT INTO {effects} (producer, seq, key_seq, crc) VALUES ($1, $2, $3, $4)");
        let trouble = Arc::new(Mutex::new(Trouble::look(&directory)));
        let (of_task, at) = (Arc::clone(&trouble), directory.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                *of_task.lock().unwrap_or_else(PoisonError::into_inner) = Trouble::look(&at);
            }
        });
        Self { directory, insert, trouble }
    }

    fn now(&self) -> Option<Kind> {
        let trouble = *self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.filter(|trouble| fastrand::f64() < trouble.share).map(|trouble| trouble.kind)
    }

    async fn suffer(&self, kind: Kind, context: &mut Context<'_, Postgres>) -> Result<(), BoxError> {
        match kind {
            Kind::Panic => panic!("told to panic"),
            Kind::Fail => return Err("told to fail".into()),
            Kind::Slow => tokio::time::sleep(SLOW).await,
            Kind::Crawl => tokio::time::sleep(CRAWL).await,
            Kind::Hang => {
                let began = std::time::Instant::now();
                while began.elapsed() < HANG && Trouble::look(&self.directory).is_some() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            Kind::Meet => {
                sqlx::query("UPDATE campaign.tally SET n = n + 1 WHERE bucket = $1")
                    .bind(fastrand::i32(0..TALLIES))
                    .execute(&mut *context.connection())
                    .await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Handler<Postgres> for Copier {
    type Event = Inbound;

    async fn handle(
        &self,
        message: &Message<Inbound>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let check = message.headers.get_str(HEADER).ok_or("a message without its header")?;
        let mut identity = Identity::read(check)?;
        let (key, payload) = (message.key.as_bytes(), message.event.payload.as_deref());
        sqlx::query(AssertSqlSafe(self.insert.clone()))
            .bind(i32::try_from(identity.producer)?)
            .bind(i64::try_from(identity.seq)?)
            .bind(i64::try_from(identity.key_seq)?)
            .bind(i64::from(identity.crc(key, payload)))
            .execute(&mut *context.connection())
            .await?;
        for copy in 0..copies(identity.seq, payload.is_some()) {
            identity.copy = copy;
            let outbound =
                Outbound { key: message.key.clone().into(), payload: message.event.payload.clone() };
            let mut headers = Headers::with_capacity(1);
            headers.push(HEADER, identity.header(key, payload));
            context.emit_with(&outbound, headers)?;
        }
        if let Some(kind) = self.now() {
            self.suffer(kind, context).await?;
        }
        Ok(Outcome::Done)
    }
}
