//! Which services run in this process.

use clap::ValueEnum;
use tidelock::prelude::*;

use crate::{inventory, orders, payment, shipping};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    All,
    Orders,
    Inventory,
    Payment,
    Shipping,
}

impl Role {
    const SERVICES: [Self; 4] = [Self::Orders, Self::Inventory, Self::Payment, Self::Shipping];

    /// The services meant by the roles on the command line.
    pub(crate) fn services(roles: &[Self]) -> Vec<Self> {
        let mut services = Self::SERVICES.to_vec();
        services.retain(|service| roles.contains(&Self::All) || roles.contains(service));
        services
    }

    fn schema(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Orders => orders::SCHEMA,
            Self::Inventory => inventory::SCHEMA,
            Self::Payment => payment::SCHEMA,
            Self::Shipping => shipping::SCHEMA,
        }
    }
}

/// Creates the framework's tables and those of the services that run here. Many processes may start together.
pub(crate) async fn migrate(database: &Postgres, services: &[Role]) -> Result<(), BoxError> {
    const LOCK: i64 = 7_012_026;
    database.migrate().await?;
    let mut transaction = database.pool().begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // Else every start logs that every table is there already.
    sqlx::query("SET LOCAL client_min_messages = warning").execute(&mut *transaction).await?;
    for service in services {
        sqlx::raw_sql(service.schema()).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The pipeline of these services. The relay goes with the order service: the others write no outbox, they emit.
pub(crate) fn pipeline(
    settings: Settings,
    database: &Postgres,
    services: &[Role],
    instance: Option<String>,
) -> Result<Pipeline, BoxError> {
    let mut builder = Pipeline::builder(Kafka::new(settings.kafka)?, database.clone())
        .processor_defaults(settings.processor);
    if let Some(instance) = instance {
        builder = builder.instance(instance);
    }
    for service in services {
        builder = match service {
            Role::All => builder,
            Role::Orders => builder.relay(settings.relay.clone()).processor(orders::processor()),
            Role::Inventory => builder.processor(inventory::processor()),
            Role::Payment => builder.processor(payment::processor()),
            Role::Shipping => builder.processor(shipping::processor()),
        };
    }
    Ok(builder.build()?)
}
