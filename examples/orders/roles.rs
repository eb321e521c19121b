//! Which services run in this process.

use std::sync::Arc;

use clap::ValueEnum;
use tidelock::{log::Log, prelude::*};

use crate::{inventory, orders, payment, shipping, shop::Shop};

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

    /// Its tables, for PostgreSQL.
    pub(crate) fn postgres(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Orders => include_str!("orders/postgres.sql"),
            Self::Inventory => include_str!("inventory/postgres.sql"),
            Self::Payment => include_str!("payment/postgres.sql"),
            Self::Shipping => include_str!("shipping/postgres.sql"),
        }
    }

    /// Its tables, for SQLite.
    pub(crate) fn sqlite(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Orders => include_str!("orders/sqlite.sql"),
            Self::Inventory => include_str!("inventory/sqlite.sql"),
            Self::Payment => include_str!("payment/sqlite.sql"),
            Self::Shipping => include_str!("shipping/sqlite.sql"),
        }
    }
}

/// The pipeline of these services. The relay goes with the order service: the others write no outbox, they emit.
pub(crate) fn pipeline<D: Shop>(
    settings: Settings,
    log: Arc<dyn Log>,
    database: &D,
    services: &[Role],
    instance: Option<String>,
) -> Result<Pipeline, BoxError> {
    let mut builder = Pipeline::builder(log, database.clone()).processor_defaults(settings.processor);
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
