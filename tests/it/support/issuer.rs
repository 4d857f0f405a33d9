//! An issuer of valid and invalid tokens.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reservd::auth::clock;
use ring::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

/// The issuer and the audience of its tokens.
pub const ISSUER: &str = "https://id.example/";
pub const AUDIENCE: &str = "reservd-of-the-tests";

/// A private key of each kind.
pub struct Issuer {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

/// The key that signs a token.
#[derive(Clone, Debug)]
pub enum Signer {
    Ed25519,
    P256,
    Rsa,
    /// HMAC with this secret.
    Hmac(Vec<u8>),
    /// No key: these bytes are the signature.
    Bytes(Vec<u8>),
}

impl Issuer {
    /// New keys. The RSA key is fixed, since generating one takes long.
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).expect("random numbers");
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("random numbers");
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("../security/rsa-key-of-the-tests.pem"));
        Self {
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).expect("just made"),
            p256: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref(), &random)
                .expect("just made"),
            rsa: RsaKeyPair::from_pkcs8(rsa.expect("PEM").secret_pkcs8_der()).expect("a key"),
        }
    }

    /// Its key set: a key of each kind, with the kind as kid.
    pub fn jwks(&self) -> Value {
        let (point, modulus) =
            (self.p256.public_key().as_ref(), rsa::PublicKeyComponents::<Vec<u8>>::from(self.rsa.public()));
        json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed25519", "use": "sig", "x": part(self.ed25519.public_key()) },
            { "kty": "EC", "crv": "P-256", "kid": "p256", "alg": "ES256", "x": part(&point[1..33]), "y": part(&point[33..]) },
            { "kty": "RSA", "kid": "rsa", "n": part(modulus.n), "e": part(modulus.e) },
        ] })
    }

    /// The public half of its Ed25519 key.
    pub fn public_key(&self) -> Vec<u8> {
        self.ed25519.public_key().as_ref().to_vec()
    }

    /// A token with this header and these claims.
    pub fn sign(&self, signer: &Signer, header: &Value, claims: &Value) -> String {
        self.sign_text(signer, &header.to_string(), &claims.to_string())
    }

    /// A token whose header and claims need not be JSON.
    pub fn sign_text(&self, signer: &Signer, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = match signer {
            Signer::Ed25519 => self.ed25519.sign(signed.as_bytes()).as_ref().to_vec(),
            Signer::P256 => {
                let signature = self.p256.sign(&SystemRandom::new(), signed.as_bytes());
                signature.expect("random numbers").as_ref().to_vec()
            }
            Signer::Rsa => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                let signed = self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
                signed.expect("it can sign");
                signature
            }
            Signer::Hmac(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes()).as_ref().to_vec()
            }
            Signer::Bytes(bytes) => bytes.clone(),
        };
        format!("{signed}.{}", part(signature))
    }

    /// A valid token for this subject and these roles.
    pub fn token(&self, subject: &str, roles: &[&str]) -> String {
        self.sign(&Signer::Ed25519, &header(), &claims(subject, roles))
    }
}

/// The header of a valid token.
pub fn header() -> Value {
    json!({ "alg": "EdDSA", "kid": "ed25519", "typ": "at+jwt" })
}

/// The claims of a valid token.
pub fn claims(subject: &str, roles: &[&str]) -> Value {
    let now = clock::now();
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "roles": roles, "nbf": now - 5, "exp": now + 3600 })
}

/// Bytes as a part of a token.
pub fn part(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
