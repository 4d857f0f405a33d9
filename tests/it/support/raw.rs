//! Calls without the generated clients: any method, any bytes.

use prost::bytes::{Buf, BufMut};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// Calls the method at `path` with an encoded message.
pub async fn raw_call(channel: Channel, path: &'static str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    raw_call_with(channel, path, Request::new(message)).await
}

/// The same, with the metadata of `request`.
pub async fn raw_call_with(channel: Channel, path: &str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.expect("the channel is ready");
    let path = PathAndQuery::try_from(path).expect("a path");
    client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
}

/// A codec that passes bytes through.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
