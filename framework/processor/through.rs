//! Handlers of one database, run on another one with the same connection: they cannot tell the difference.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt;

use super::{
    Processor, ProcessorConfig,
    registry::{Erased, Meta},
};
use crate::{
    database::Database,
    error::{Error, Kind, Result},
    handler::{Context, Outcome},
    log::Received,
};

/// Told of every execution when it has ended, before the processor is.
#[async_trait]
pub(crate) trait Witness: Send + Sync {
    async fn handled(&self, outcome: &Result<Outcome>);
}

struct Through<D: Database> {
    inner: Arc<dyn Erased<D>>,
    witness: Arc<dyn Witness>,
}

#[async_trait]
impl<D: Database, O: Database<Connection = D::Connection>> Erased<O> for Through<D> {
    async fn handle(&self, record: &Received, meta: Meta, context: &mut Context<'_, O>) -> Result<Outcome> {
        let mut lent = context.lend::<D>();
        let handled = AssertUnwindSafe(self.inner.handle(record, meta, &mut lent)).catch_unwind().await;
        let outputs = lent.into_outputs();
        context.take_back(outputs);
        let outcome = handled
            .unwrap_or_else(|panic| Err(Error::panicked(Kind::Handler, "the handler", panic.as_ref())));
        self.witness.handled(&outcome).await;
        outcome
    }
}

impl<D: Database> Processor<D> {
    /// The same processor for another database with the same connection.
    pub(crate) fn through<O: Database<Connection = D::Connection>>(
        self,
        witness: Arc<dyn Witness>,
        tune: impl FnOnce(&mut ProcessorConfig),
    ) -> Processor<O> {
        let mut config = self.config.unwrap_or_default();
        tune(&mut config);
        let registry = self
            .registry
            .map(|inner| -> Arc<dyn Erased<O>> { Arc::new(Through { inner, witness: witness.clone() }) });
        Processor { group: self.group, config: Some(config), registry }
    }

    /// The topics that its handlers read.
    pub(crate) fn topics(&self) -> Vec<&'static str> {
        self.registry.topics().into_iter().collect()
    }
}
