//! The rules of a proxy about requests.

use std::sync::Arc;
use std::time::Duration;

use super::trap::{Armed, Rule, Trap};
use super::{Action, Framing, Proxy, request, request::Request};

impl Proxy {
    /// Acts on the first request that matches.
    ///
    /// # Panics
    /// If the action is one of Kafka's alone and the proxy does not carry Kafka.
    pub fn trap(
        &self,
        matches: impl Fn(&Request<'_>) -> bool + Send + Sync + 'static,
        action: Action,
    ) -> Trap {
        Trap(self.arm(Box::new(matches), action, None))
    }

    /// Acts on every request that matches, with this probability (0 to 1), until the rule is dropped. The same seed
    /// picks the same of the matching requests, as long as they come in the same order.
    ///
    /// # Panics
    /// If the action is one of Kafka's alone and the proxy does not carry Kafka.
    pub fn rule(
        &self,
        matches: impl Fn(&Request<'_>) -> bool + Send + Sync + 'static,
        action: Action,
        probability: f64,
        seed: u64,
    ) -> Rule {
        let dice = (fastrand::Rng::with_seed(seed), probability);
        Rule(self.arm(Box::new(matches), action, Some(dice)))
    }

    /// The first request that matches arrives, its answer does not: "sent, and then nothing". The connection is
    /// reset `after` the server answered (or 10 s if it never does), so by then the server has acted.
    pub fn cut_after_request(
        &self,
        matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
        after: Duration,
    ) -> Trap {
        self.trap(request::bytes(matches), Action::LoseAnswer(after))
    }

    /// The first request that matches does not arrive, and its connection is reset.
    pub fn cut_before_request(&self, matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Trap {
        self.trap(request::bytes(matches), Action::LoseRequest)
    }

    /// In the next request that matches, `from` reads `to`, which is as long: a name that the server does not know, say.
    /// The answer is the server's own.
    ///
    /// # Panics
    /// If the two differ in length, or are empty.
    pub fn replace_in_request(
        &self,
        matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
        from: impl Into<Vec<u8>>,
        to: impl Into<Vec<u8>>,
    ) -> Trap {
        let (from, to) = (from.into(), to.into());
        assert!(
            from.len() == to.len() && !from.is_empty(),
            "{from:?} and {to:?} differ in length, or are empty"
        );
        self.trap(request::bytes(matches), Action::Replace(from, to))
    }

    /// The first request that matches waits, and what follows on its connection behind it, until
    /// [`Trap::release`]: the moment just before, for as long as a test needs.
    pub fn hold_request(&self, matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Trap {
        self.trap(request::bytes(matches), Action::Hold)
    }

    fn arm(
        &self,
        matches: super::trap::Matcher,
        action: Action,
        dice: Option<(fastrand::Rng, f64)>,
    ) -> Arc<Armed> {
        let kafka = self.shared.framing == Framing::Kafka;
        assert!(kafka || !action.copies(), "{action:?} needs a proxy that carries Kafka");
        let armed = Armed::new(matches, action, dice);
        let mut switches = self.shared.switches();
        switches.traps.retain(|trap| !trap.spent());
        switches.traps.push(Arc::clone(&armed));
        armed
    }
}
