//! The services at the processor's crash points: `cargo test --all-features --example orders`.

use sqlx::SqliteConnection;
use tidelock::{
    prelude::*,
    testing::{CrashPoints, Report},
};
use uuid::Uuid;

use crate::{
    events::{Line, OrderPlaced, OrderShipped, PaymentAnswered, PaymentResult, StockReserved},
    inventory, payment,
    roles::Role,
    shipping,
};

async fn tables_of(service: Role) -> Result<Sqlite, BoxError> {
    let database = Sqlite::in_memory().await?;
    database.migrate().await?;
    let mut transaction = database.outbox().begin().await?;
    sqlx::raw_sql(service.sqlite()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(database)
}

fn passed(report: &Report) {
    println!("{report}");
    assert!(report.hit.len() > 50, "{report}");
}

fn order(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn placed(number: u128, sku: &str, quantity: i64) -> OrderPlaced {
    let lines = vec![Line { sku: sku.to_owned(), quantity }];
    OrderPlaced { order_id: order(number), customer: "ann".to_owned(), amount_cents: 100, lines }
}

fn answered(number: u128, result: PaymentResult) -> PaymentAnswered {
    PaymentAnswered { order_id: order(number), result, amount_cents: 100 }
}

#[tokio::test]
async fn stock_is_reserved_released_and_sent_out_once() {
    let report = CrashPoints::new(async || tables_of(Role::Inventory).await, inventory::processor)
        .effect(async |connection: &mut SqliteConnection| {
            let stock =
                "SELECT sku, available, reserved, shipped FROM inventory_stock WHERE available < supplied";
            let stock: Vec<(String, i64, i64, i64)> =
                sqlx::query_as(stock).fetch_all(&mut *connection).await?;
            let aside = "SELECT order_id, sku, quantity FROM inventory_reservation ORDER BY order_id";
            let aside: Vec<(Uuid, String, i64)> = sqlx::query_as(aside).fetch_all(connection).await?;
            Ok((stock, aside))
        })
        .message(&placed(1, "sextant", 30))
        .message(&placed(2, "sextant", 30))
        .message(&placed(3, "rope", 2))
        .message(&placed(4, "sail", 1))
        .message(&answered(1, PaymentResult::Taken))
        .message(&answered(3, PaymentResult::Declined))
        .message(&OrderShipped { order_id: order(1), parcel: 1 })
        .run()
        .await
        .unwrap();
    passed(&report);
    assert_eq!(report.emitted, 5);
}

#[tokio::test]
async fn money_is_taken_once() {
    let reserved = |number, customer: &str, amount_cents| StockReserved {
        order_id: order(number),
        customer: customer.to_owned(),
        amount_cents,
    };
    let report = CrashPoints::new(async || tables_of(Role::Payment).await, payment::processor)
        .effect(async |connection: &mut SqliteConnection| {
            let accounts = "SELECT customer, balance_cents FROM payment_account ORDER BY customer";
            let accounts: Vec<(String, i64)> = sqlx::query_as(accounts).fetch_all(&mut *connection).await?;
            let till: i64 =
                sqlx::query_scalar("SELECT taken_cents FROM payment_till").fetch_one(connection).await?;
            Ok((accounts, till))
        })
        .messages(&[
            reserved(1, "ann", 600_000),
            reserved(2, "ann", 600_000),
            reserved(3, "mallory", 1),
            reserved(4, "bob", 5),
        ])
        .run()
        .await
        .unwrap();
    passed(&report);
    assert_eq!(report.emitted, 4);
}

#[tokio::test]
async fn a_parcel_is_sent_once() {
    let report = CrashPoints::new(async || tables_of(Role::Shipping).await, shipping::processor)
        .effect(async |connection: &mut SqliteConnection| {
            let parcels = "SELECT parcel, order_id FROM shipping_parcel ORDER BY parcel";
            let parcels: Vec<(i64, Uuid)> = sqlx::query_as(parcels).fetch_all(connection).await?;
            Ok(parcels)
        })
        .message(&answered(1, PaymentResult::Taken))
        .message(&answered(2, PaymentResult::Declined))
        .message(&answered(3, PaymentResult::Taken))
        .message(&answered(4, PaymentResult::Taken))
        .run()
        .await
        .unwrap();
    passed(&report);
    assert_eq!(report.emitted, 3);
}
