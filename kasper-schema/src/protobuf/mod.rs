//! Protobuf messages: plain ones, and those with the id of their schema in the registry.

mod codec;
mod decoder;
mod encoder;
mod proto;

pub use codec::Protobuf;
pub use decoder::ProtobufDecoder;
pub use encoder::ProtobufEncoder;
