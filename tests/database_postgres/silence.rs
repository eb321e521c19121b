//! A host that is gone without a word: nothing is answered, and nothing is closed either.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tidelock::{
    commit::Commit,
    database::{
        Database as _, Unit as _,
        postgres::{Postgres, PostgresConfig, PostgresUnit},
    },
    error::Kind,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    Shop, eventually,
    unit::{advance, effect, fenced, key, next_offset},
};
use crate::conformance::within;

/// Between us and the server; connections of an earlier age are neither served nor closed.
struct Between {
    age: Arc<AtomicU32>,
    url: String,
}

impl Between {
    async fn new(shop: &Shop) -> Self {
        let (user, place) = shop.url.split_once('@').unwrap();
        let (server, name) = place.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{name}", listener.local_addr().unwrap());
        let age = Arc::new(AtomicU32::new(0));
        let (server, now) = (server.to_owned(), age.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, now.clone()));
                tokio::spawn(pass(from_server, to_client, now.clone()));
            }
        });
        Self { age, url }
    }

    fn falls_silent(&self) {
        self.age.fetch_add(1, Ordering::SeqCst);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, age: Arc<AtomicU32>) {
    let born = age.load(Ordering::SeqCst);
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if age.load(Ordering::SeqCst) != born {
            std::future::pending::<()>().await;
        }
        to.write_all(&bytes[..count]).await.unwrap();
    }
}

/// Waits until the place of the silent connection is free.
async fn begun(postgres: &Postgres) -> PostgresUnit {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match postgres.begin().await {
            Ok(unit) => return unit,
            Err(error) => assert!(error.kind() == Kind::Timeout && Instant::now() < until, "{error}"),
        }
    }
}

/// Each connection that was at rest would cost whoever is given it a whole `connect_timeout`.
#[tokio::test]
async fn what_was_at_rest_when_the_server_fell_silent_holds_nobody_up() {
    const CONNECTIONS: u32 = 4;
    let shop = fenced().await;
    let between = Between::new(&shop).await;
    let config = PostgresConfig {
        url: between.url.clone().into(),
        max_connections: CONNECTIONS,
        ..PostgresConfig::default()
    };
    let postgres = Postgres::connect(config).await.unwrap();
    let mut units = Vec::new();
    for _ in 0..CONNECTIONS {
        units.push(postgres.begin().await.unwrap());
    }
    for unit in units {
        unit.rollback().await;
    }
    postgres.fence(&key(0)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    between.falls_silent();
    let began = Instant::now();
    let mut units = Vec::new();
    for _ in 0..CONNECTIONS {
        units.push(postgres.begin().await.unwrap());
    }
    postgres.fence(&key(0)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_its_connections_with_it() {
    let shop = fenced().await;
    let between = Between::new(&shop).await;
    let config = PostgresConfig {
        url: between.url.clone().into(),
        max_connections: 1,
        answer_timeout: Duration::from_millis(300),
        ..PostgresConfig::default()
    };
    let postgres = Postgres::connect(config).await.unwrap();
    for round in 0..3 {
        let mut unit = begun(&postgres).await;
        effect(&mut unit).await;
        postgres.fence(&key(0)).await.unwrap();
        if round == 1 {
            assert!(advance(&mut unit, 0, 1).await.unwrap());
        }
        // The connection for fences is back in its pool by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        between.falls_silent();
        let began = Instant::now();
        assert_eq!(postgres.fence(&key(0)).await.unwrap_err().kind(), Kind::Timeout);
        match round {
            0 => assert_eq!(advance(&mut unit, 0, 1).await.unwrap_err().kind(), Kind::Timeout),
            1 => assert!(matches!(unit.commit().await, Commit::Unknown(_))),
            _ => unit.rollback().await,
        }
        postgres.fence(&key(0)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    // The only connection for handlers was replaced each time, and nothing took effect.
    begun(&postgres).await.rollback().await;
    assert_eq!((next_offset(&shop).await, shop.count("effect").await), (0, 0));
}

/// It is not waited for again to roll back, nor by the pool before its place is free.
#[tokio::test]
async fn a_silent_connection_costs_one_answer_timeout() {
    let shop = fenced().await;
    let between = Between::new(&shop).await;
    let answer_timeout = Duration::from_secs(4);
    let config = PostgresConfig {
        url: between.url.clone().into(),
        max_connections: 1,
        answer_timeout,
        ..PostgresConfig::default()
    };
    let postgres = Postgres::connect(config).await.unwrap();
    let mut unit = postgres.begin().await.unwrap();
    effect(&mut unit).await;
    between.falls_silent();
    let began = Instant::now();
    assert_eq!(advance(&mut unit, 0, 1).await.unwrap_err().kind(), Kind::Timeout);
    unit.rollback().await;
    begun(&postgres).await.rollback().await;
    assert!(began.elapsed() < 2 * answer_timeout + Duration::from_secs(2), "{:?}", began.elapsed());
}

/// With what its transaction has locked: else it would take one of the server's connections, and so would the next attempt.
#[tokio::test]
async fn a_statement_that_waits_for_a_lock_ends_once_it_is_given_up() {
    let shop = fenced().await;
    let answer_timeout = Duration::from_secs(1);
    let config = PostgresConfig { url: shop.url.clone().into(), answer_timeout, ..PostgresConfig::default() };
    let postgres = Postgres::connect(config).await.unwrap();
    let mut other = shop.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE effect").execute(&mut *other).await.unwrap();
    let mut unit = postgres.begin().await.unwrap();
    let lock = sqlx::query("LOCK TABLE effect").execute(unit.connection());
    assert!(tokio::time::timeout(Duration::from_secs(1), lock).await.is_err());
    unit.rollback().await;
    let waiting = "pg_locks WHERE NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("nobody waits", async || shop.count(waiting).await == 0).await;
}

/// While another instance is waited for, which may take longer than any other answer.
#[tokio::test]
async fn an_upgrade_gives_a_silent_server_up() {
    let shop = Shop::new().await;
    let between = Between::new(&shop).await;
    let answer_timeout = Duration::from_millis(300);
    let config =
        PostgresConfig { url: between.url.clone().into(), answer_timeout, ..PostgresConfig::default() };
    let postgres = Postgres::connect(config).await.unwrap();
    let mut other = shop.pool.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('tidelock migrate tidelock', 0))";
    sqlx::query(lock).execute(&mut *other).await.unwrap();
    let upgrade = tokio::spawn(async move { postgres.migrate_in_turn(Duration::from_secs(1)).await });
    let waiting = "pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("it waits", async || shop.count(waiting).await > 0).await;
    between.falls_silent();
    let error = within(10, upgrade).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
}
