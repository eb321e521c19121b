//! What rdkafka does not wrap: the generation and the member id behind a group's metadata.
//!
//! The one room of this crate that holds unsafe code.
#![allow(unsafe_code)]

use std::ffi::CStr;

use rdkafka::{
    bindings::{
        rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
        rd_kafka_consumer_group_metadata_generation_id, rd_kafka_consumer_group_metadata_member_id,
    },
    consumer::{BaseConsumer, Consumer, ConsumerContext},
};

/// A member of a group, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    generation: i32,
    member: Vec<u8>,
}

impl Membership {
    /// What the consumer is now; `None` when it is not a member: brokers do not check requests without a
    /// generation or without a member id.
    pub(super) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        Self::last(consumer).filter(|last| last.generation >= 0 && !last.member.is_empty())
    }

    /// Whether the group was left, or never asked for a place: librdkafka forgets the member id when it leaves.
    pub(super) fn is_over<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
        Self::last(consumer).is_none_or(|last| last.member.is_empty())
    }

    fn last<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        let client = consumer.client().native_ptr();
        // SAFETY: `client` is a live handle, borrowed through `consumer` for the whole call. The function is
        // thread-safe and answers null or an object that is ours until it is destroyed below.
        let metadata = unsafe { rd_kafka_consumer_group_metadata(client) };
        if metadata.is_null() {
            return None;
        }
        // SAFETY: `metadata` is not null and not yet destroyed; both functions only read it.
        let (generation, member) = unsafe {
            (
                rd_kafka_consumer_group_metadata_generation_id(metadata),
                rd_kafka_consumer_group_metadata_member_id(metadata),
            )
        };
        let member = match member.is_null() {
            true => Vec::new(),
            // SAFETY: not null, ends with NUL, and lives as long as `metadata`; it is copied before that ends.
            false => unsafe { CStr::from_ptr(member) }.to_bytes().to_vec(),
        };
        // SAFETY: ours, and destroyed once; nothing borrowed from it is left.
        unsafe { rd_kafka_consumer_group_metadata_destroy(metadata) };
        Some(Self { generation, member })
    }
}
