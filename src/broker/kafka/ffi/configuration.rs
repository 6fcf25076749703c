//! From properties to a configuration of librdkafka's.

use std::ffi::c_char;
use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::reports::note_refusals;
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

impl Conf {
    fn new() -> Option<Self> {
        // SAFETY: makes an object of ours.
        NonNull::new(unsafe { rd::rd_kafka_conf_new() }).map(Self)
    }

    /// # Errors
    /// librdkafka's reason to refuse the name or the value; it may quote the value.
    fn set(&self, name: &str, value: &str) -> Result<(), String> {
        if name.contains('\0') || value.contains('\0') {
            return Err("there is a zero byte in it".into());
        }
        let mut text: [c_char; 512] = [0; 512];
        let (c_name, c_value) = (c_string(name), c_string(value));
        // SAFETY: the strings live until the call returns; the buffer is as long as said, and
        // holds a string when the property was refused.
        unsafe {
            let (conf, buffer) = (self.0.as_ptr(), text.as_mut_ptr());
            let (name, value) = (c_name.as_ptr(), c_value.as_ptr());
            match rd::rd_kafka_conf_set(conf, name, value, buffer, text.len()) {
                rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
                _ => Err(string(text.as_ptr()).trim_end().to_owned()),
            }
        }
    }

    fn get(&self, name: &str) -> String {
        // SAFETY: the configuration is valid.
        unsafe { value_of(self.0.as_ptr(), name) }
    }
}

/// The value of a property; empty if it is not set.
///
/// # Safety
/// The configuration is valid, and nobody changes it meanwhile.
pub(super) unsafe fn value_of(conf: *const rd::rd_kafka_conf_t, name: &str) -> String {
    let (name, mut text) = (c_string(name), [0 as c_char; 512]);
    let mut size = text.len();
    // SAFETY: the string lives until the call returns. The buffer is as long as said; the value is cut
    // to fit and ends with a zero byte, and where there is none the buffer stays empty.
    unsafe {
        rd::rd_kafka_conf_get(conf, name.as_ptr(), text.as_mut_ptr(), &raw mut size);
        string(text.as_ptr())
    }
}

/// Whether librdkafka takes this value of this property.
///
/// # Errors
/// librdkafka's reason not to; it may quote the value.
pub(crate) fn try_property(name: &str, value: &str) -> Result<(), String> {
    Conf::new().map_or(Ok(()), |conf| conf.set(name, value))
}

/// Whether librdkafka was built with this: a name such as `sasl_scram`.
pub(crate) fn has_feature(feature: &str) -> bool {
    let features = Conf::new().map(|conf| conf.get("builtin.features")).unwrap_or_default();
    features.split(',').any(|built_in| built_in == feature)
}

pub(super) fn configuration(
    role: Role,
    properties: &[(String, String)],
) -> Result<Conf, CreateError> {
    let conf = Conf::new()
        .ok_or_else(|| CreateError::Client("there is no memory for a configuration".into()))?;
    for (name, value) in properties {
        conf.set(name, value)
            .map_err(|reason| CreateError::Property { name: name.clone(), reason })?;
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
    unsafe {
        if role == Role::Producer {
            note_refusals(conf.0.as_ptr());
        }
        rd::rd_kafka_conf_set_events(conf.0.as_ptr(), events);
    }
    Ok(conf)
}

/// librdkafka's own table of its properties: name, `C`, `P` or `*`, and the description of each.
#[cfg(test)]
pub(crate) fn table_of_properties() -> Vec<(String, String, String)> {
    let path = tempfile_path();
    let name = c_string(&path);
    // SAFETY: the file is opened here, written by the call, and closed once.
    unsafe {
        let file = libc::fopen(name.as_ptr(), c"w".as_ptr());
        assert!(!file.is_null(), "{path}");
        rd::rd_kafka_conf_properties_show(file.cast());
        libc::fclose(file);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let is_row = cells.len() >= 6 && ["C", "P", "*"].contains(&cells[1]);
        is_row.then(|| (cells[0].into(), cells[1].into(), cells[5..].join("|")))
    });
    rows.collect()
}

#[cfg(test)]
fn tempfile_path() -> String {
    let name = format!("kasper-properties-{}", std::process::id());
    std::env::temp_dir().join(name).to_str().unwrap().to_owned()
}
