//! What errors of librdkafka mean.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use crate::error::{Error, Kind};

/// An error of a call, with what was being done.
pub(super) fn failed(what: impl Into<String>, error: KafkaError) -> Error {
    let kind = kind(&error);
    match error {
        // The text of librdkafka shows the value, which may be a password.
        KafkaError::ClientConfig(_, _, name, _) => {
            Error::new(kind, format!("{}: option {name} or its value is not accepted", what.into()))
        }
        error => Error::caused(kind, what, error),
    }
}

pub(super) fn kind(error: &KafkaError) -> Kind {
    match error {
        KafkaError::AdminOp(code) => kind_of(*code),
        KafkaError::ClientConfig(..) | KafkaError::AdminOpCreation(_) => Kind::Config,
        // What the settings are to blame for shows when the first client is made; later it is a thread that cannot be had.
        KafkaError::ClientCreation(_) => Kind::Unavailable,
        KafkaError::Nul(_) => Kind::Refused,
        KafkaError::Canceled => Kind::Stopped,
        other => other.rdkafka_error_code().map_or(Kind::Unavailable, kind_of),
    }
}

pub(super) fn kind_of(code: Code) -> Kind {
    match code {
        Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::FencedInstanceId
        | Code::IllegalGeneration
        | Code::UnknownMemberId => Kind::Fenced,
        Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::UnstableOffsetCommit => Kind::Timeout,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed => Kind::Denied,
        Code::UnsupportedSASLMechanism
        | Code::SSL
        | Code::InvalidTransactionTimeout
        | Code::InvalidSessionTimeout
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidConfig
        | Code::InvalidGroupId
        | Code::InvalidTopic
        | Code::InconsistentGroupProtocol
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::PolicyViolation
        | Code::UnsupportedVersion => Kind::Config,
        _ => Kind::Unavailable,
    }
}

/// Whether a connection could not log in.
pub(super) fn is_login(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::Authentication | Code::SaslAuthenticationFailed))
}

/// Whether the broker does not know the partition: right after its start it knows none.
pub(super) fn is_unknown(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition)
    )
}

/// Whether a record would be refused again, and not because of another record of its transaction.
pub(super) fn refuses_for_good(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Nul(_)) || error.rdkafka_error_code().is_some_and(is_refusal)
}

fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::PolicyViolation
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
    )
}

/// Whether brokers may have refused the batch for what travelled along.
pub(super) fn refuses_the_batch(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_another_refusal_is_none() {
        for code in [
            Code::PurgeQueue,
            Code::PurgeInflight,
            Code::InvalidDifferentRecord,
            Code::OutOfOrderSequenceNumber,
            Code::MessageTimedOut,
            Code::NotEnoughReplicas,
            Code::InvalidProducerEpoch,
        ] {
            assert!(!is_refusal(code), "{code:?}");
        }
        assert!(refuses_for_good(&KafkaError::MessageProduction(Code::UnknownTopic)));
    }
}
