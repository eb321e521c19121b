//! What rdkafka does not wrap: the id that a topic got when it was created. One that was deleted and created again under
//! the same name has another id.
//!
//! Beside `membership.rs` the only file of this crate that holds unsafe code.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char},
    ptr::{NonNull, null_mut},
    slice,
    time::Duration,
};

use rdkafka::{
    admin::AdminClient,
    bindings::{
        rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_request_timeout,
        rd_kafka_DescribeTopics, rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
        rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_error,
        rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_base64str, rd_kafka_admin_op_t,
        rd_kafka_error_code, rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy,
        rd_kafka_event_error, rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll,
    },
    client::ClientContext,
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};

use super::fault;
use crate::error::{Error, Kind, Result};

/// How much longer than the request an answer is waited for: librdkafka itself says when the request timed out.
const GRACE: Duration = Duration::from_secs(1);

/// An object of librdkafka that is ours, and destroyed once.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(object).map(|object| Self(object, destroy))
    }

    fn get(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made by the function's counterpart, not destroyed before, and nothing borrowed from it is left.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// Asks the brokers. Blocks up to `within` and a little.
pub(super) fn ask<C: ClientContext>(admin: &AdminClient<C>, topic: &str, within: Duration) -> Result<String> {
    let what = || format!("id of topic {topic:?}");
    let name = CString::new(topic).map_err(|error| Error::caused(Kind::Config, what(), error))?;
    let answer = describe(admin, &name, within)
        .ok_or_else(|| Error::new(Kind::Timeout, format!("{}: no answer within {within:?}", what())))?;
    answer.map_err(|code| {
        // A broker that has just started knows nothing.
        let unknown = matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition);
        let kind = if unknown { Kind::Unavailable } else { fault::kind_of(code) };
        Error::caused(kind, what(), code)
    })
}

/// `None`: no answer came.
fn describe<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &CStr,
    within: Duration,
) -> Option<Result<String, Code>> {
    let client = admin.inner().native_ptr();
    let milliseconds = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    let mut names: [*const c_char; 1] = [topic.as_ptr()];
    // SAFETY: `client` is a live handle, borrowed through `admin` for the whole call, and its functions may be called from
    // any thread. `names` has one element, which ends with NUL; the collection copies it. The options, the queue and the
    // collection are made here and outlive the request, which copies the collection and the options and holds the queue
    // by a count of its own. No error text is wanted from setting the time-out, so none is given room.
    let event = unsafe {
        let options =
            rd_kafka_AdminOptions_new(client, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let options = Owned::new(options, rd_kafka_AdminOptions_destroy)?;
        rd_kafka_AdminOptions_set_request_timeout(options.get(), milliseconds(within), null_mut(), 0);
        let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, rd_kafka_TopicCollection_destroy)?;
        let queue = Owned::new(rd_kafka_queue_new(client), rd_kafka_queue_destroy)?;
        rd_kafka_DescribeTopics(client, topics.get(), options.get(), queue.get());
        Owned::new(rd_kafka_queue_poll(queue.get(), milliseconds(within + GRACE)), rd_kafka_event_destroy)?
    };
    let code = |error: RDKafkaRespErr| Code::from(error);
    // SAFETY: the event is live until the end of this function. Its result is null unless it is of this kind; the topics
    // and their ids and errors belong to it, and the text of an id is copied before it goes.
    unsafe {
        let failed = rd_kafka_event_error(event.get());
        if failed != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Some(Err(code(failed)));
        }
        let result = rd_kafka_event_DescribeTopics_result(event.get());
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let descriptions = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if descriptions.is_null() || count == 0 {
            return Some(Err(Code::UnknownTopicOrPartition));
        }
        let description = *slice::from_raw_parts(descriptions, count).first()?;
        let failed = rd_kafka_error_code(rd_kafka_TopicDescription_error(description));
        if failed != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Some(Err(code(failed)));
        }
        let text = rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(description));
        if text.is_null() {
            return Some(Err(Code::UnknownTopicId));
        }
        Some(Ok(CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}
