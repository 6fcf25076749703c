//! From properties to a configuration of librdkafka's.

use std::ffi::c_char;
use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::{c_string, string};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Consumer,
    Producer,
}

/// Why there is no client.
#[derive(Debug)]
pub(crate) enum CreateError {
    /// A property's name or value was refused, for librdkafka's reason.
    Property { name: String, reason: String },
    /// The properties don't fit together, for librdkafka's reason.
    Client(String),
}

pub(super) struct Conf(pub(super) NonNull<rd::rd_kafka_conf_t>);

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: ours; forgotten where a client took it over.
        unsafe { rd::rd_kafka_conf_destroy(self.0.as_ptr()) }
    }
}

pub(super) fn configuration(
    role: Role,
    properties: &[(String, String)],
) -> Result<Conf, CreateError> {
    // SAFETY: makes an object of ours.
    let conf = Conf(
        NonNull::new(unsafe { rd::rd_kafka_conf_new() })
            .ok_or_else(|| CreateError::Client("there is no memory for a configuration".into()))?,
    );
    for (name, value) in properties {
        let mut text: [c_char; 512] = [0; 512];
        let (c_name, c_value) = (c_string(name), c_string(value));
        // SAFETY: the strings live until the call returns; the buffer is as long as said, and
        // holds a string when the property was refused.
        unsafe {
            let (name_pointer, value_pointer) = (c_name.as_ptr(), c_value.as_ptr());
            let (conf, buffer) = (conf.0.as_ptr(), text.as_mut_ptr());
            let result =
                rd::rd_kafka_conf_set(conf, name_pointer, value_pointer, buffer, text.len());
            if result != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                let reason = string(text.as_ptr());
                return Err(CreateError::Property { name: name.clone(), reason });
            }
        }
    }
    let events = match role {
        Role::Consumer => rd::RD_KAFKA_EVENT_REBALANCE | rd::RD_KAFKA_EVENT_OFFSET_COMMIT,
        Role::Producer => rd::RD_KAFKA_EVENT_DR,
    };
    let events = events
        | rd::RD_KAFKA_EVENT_ERROR
        | rd::RD_KAFKA_EVENT_STATS
        | rd::RD_KAFKA_EVENT_LOG
        | rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
    // SAFETY: the configuration is valid.
    unsafe { rd::rd_kafka_conf_set_events(conf.0.as_ptr(), events) };
    Ok(conf)
}
