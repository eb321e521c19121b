//! Every test that needs real servers, in one binary.

mod log_kafka;
