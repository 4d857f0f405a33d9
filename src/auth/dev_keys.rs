//! Keys and tokens for development, in place of an identity provider.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

/// The files in a folder of keys.
const KEY: &str = "signing-key.pem";
const JWKS: &str = "jwks.json";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum DevKeysError {
    /// A file can't be read or written.
    #[error("{}: {cause}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The file is not a private key.
    #[error("{} is not an Ed25519 key in PEM", .0.display())]
    Key(PathBuf),
}

/// A key that signs tokens.
pub struct DevKeys {
    pair: Ed25519KeyPair,
}

impl DevKeys {
    /// The keys in this folder. Creates them where they are missing: a private key that only its owner can read,
    /// and a key set for `auth.jwks`.
    pub fn in_folder(folder: &Path) -> Result<Self, DevKeysError> {
        let (key, jwks) = (folder.join(KEY), folder.join(JWKS));
        fs::create_dir_all(folder).map_err(|cause| DevKeysError::File { file: folder.to_owned(), cause })?;
        if !key.exists() {
            write_new(&key, 0o600, new_key_pem().as_bytes())?;
        }
        let pem = fs::read(&key).map_err(|cause| DevKeysError::File { file: key.clone(), cause })?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| DevKeysError::Key(key.clone()))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        let keys = Self { pair: pair.map_err(|_| DevKeysError::Key(key))? };
        if !jwks.exists() {
            write_new(&jwks, 0o644, format!("{:#}\n", keys.jwks()).as_bytes())?;
        }
        Ok(keys)
    }

    /// The key set for `auth.jwks`.
    pub fn jwks(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid(), "x": x }] })
    }

    /// Signs a token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": self.kid() });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Derived from the key, so that different keys have different ids.
    fn kid(&self) -> String {
        let digest = digest(&SHA256, self.pair.public_key().as_ref());
        BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12])
    }
}

fn new_key_pem() -> String {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("the system has random numbers");
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
}

/// Writes a new file, and never overwrites one.
pub fn write_new(file: &Path, mode: u32, content: &[u8]) -> Result<(), DevKeysError> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(content));
    written.map_err(|cause| DevKeysError::File { file: file.to_owned(), cause })
}
