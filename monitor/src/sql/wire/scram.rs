//! How clients prove who they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth, gen_salted_password, random_nonce};

use super::frontend::{Frontend, violation};
use crate::sql::error::SqlError;

/// The only mechanism offered: channel binding needs the TLS certificate, which `--no-ssl` lacks.
const MECHANISM: &str = "SCRAM-SHA-256";
const ITERATIONS: usize = 4096;

/// The authentication method.
#[derive(Clone, Debug, Default)]
pub enum Authentication {
    /// Everybody is who he says.
    #[default]
    Trust,
    /// SCRAM-SHA-256 against stored verifiers.
    Scram(Arc<Verifiers>),
}

/// What is stored of passwords: by user, what PostgreSQL keeps in `pg_authid.rolpassword`.
#[derive(Clone, Debug, Default)]
pub struct Verifiers {
    by_user: BTreeMap<String, Verifier>,
}

#[derive(Clone)]
struct Verifier {
    iterations: usize,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(...)")
    }
}

impl Verifiers {
    pub fn new() -> Verifiers {
        Verifiers::default()
    }

    /// Adds a user with PostgreSQL's `SCRAM-SHA-256$<iterations>:<salt>$<stored>:<server>`.
    /// False when the text is no such verifier.
    pub fn add(&mut self, user: &str, verifier: &str) -> bool {
        let Some(verifier) = parse(verifier) else { return false };
        self.by_user.insert(user.to_string(), verifier);
        true
    }

    /// Adds a user by password, which is not kept.
    pub fn add_password(&mut self, user: &str, password: &str) {
        // A random nonce is as good a salt as any.
        let salt = random_nonce().into_bytes();
        let salted = gen_salted_password(password, &salt, ITERATIONS);
        if let ScramSecret::Verifier { salt, iterations, stored_key, server_key } =
            ScramSecret::verifier_from_salted_password(salt, salted, ITERATIONS)
        {
            self.by_user.insert(user.to_string(), Verifier { iterations, salt, stored_key, server_key });
        }
    }
}

fn parse(text: &str) -> Option<Verifier> {
    let rest = text.strip_prefix("SCRAM-SHA-256$")?;
    let (head, keys) = rest.split_once('$')?;
    let (iterations, salt) = head.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    Some(Verifier {
        iterations: iterations.parse().ok()?,
        salt: base64(salt)?,
        stored_key: base64(stored)?,
        server_key: base64(server)?,
    })
}

/// Standard base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    for chunk in bytes.chunks(4) {
        let padding = chunk.iter().rev().take_while(|c| **c == b'=').count();
        if padding > 2 {
            return None;
        }
        let mut word = 0;
        for c in chunk.iter().take(4 - padding) {
            word = word << 6 | digit(*c)?;
        }
        word <<= 6 * padding;
        out.extend(word.to_be_bytes().into_iter().skip(1).take(3 - padding));
    }
    Some(out)
}

/// The conversation as far as it has come.
pub struct Conversation {
    user: String,
    secret: Option<ScramSecret>,
    waiting: Option<pgwire::api::auth::sasl::scram::ScramServerAuthWaitingForClientFinal>,
}

/// The next step of a conversation.
pub enum Step {
    /// AuthenticationSASLContinue with this data.
    Continue(Vec<u8>),
    /// AuthenticationSASLFinal with this data, then success.
    Success(Vec<u8>),
}

/// The data of AuthenticationSASL.
pub fn offer() -> Vec<u8> {
    let mut data = MECHANISM.as_bytes().to_vec();
    data.extend([0, 0]);
    data
}

impl Conversation {
    pub fn new(user: &str, verifiers: &Verifiers) -> Conversation {
        // Unknown users go through the motions with a secret that nobody knows, so that the
        // answer does not tell who exists.
        let secret = verifiers.by_user.get(user).map_or_else(
            || ScramSecret::Verifier {
                salt: random_nonce().into_bytes(),
                iterations: ITERATIONS,
                stored_key: random_nonce().into_bytes().into_iter().cycle().take(32).collect(),
                server_key: vec![0; 32],
            },
            |v| ScramSecret::Verifier {
                salt: v.salt.clone(),
                iterations: v.iterations,
                stored_key: v.stored_key.clone(),
                server_key: v.server_key.clone(),
            },
        );
        Conversation { user: user.to_string(), secret: Some(secret), waiting: None }
    }

    /// Takes a password message.
    ///
    /// # Errors
    /// 28P01, or 08P01 for messages out of order.
    pub fn take(&mut self, message: Frontend) -> Result<Step, SqlError> {
        let Frontend::Password(body) = message else {
            return Err(violation("expected SASL response"));
        };
        let failed = || SqlError::new("28P01", format!("password authentication failed for user \"{}\"", self.user));
        match (self.waiting.take(), self.secret.take()) {
            (Some(waiting), _) => match waiting.on_client_final_message(&body) {
                Ok(last) => Ok(Step::Success(last.into_bytes())),
                Err(_) => Err(failed()),
            },
            (None, Some(secret)) => {
                let first = initial_response(body)?;
                match ScramServerAuth::new().on_client_first_message_with_secret(&first, secret) {
                    Ok((answer, waiting)) => {
                        self.waiting = Some(waiting);
                        Ok(Step::Continue(answer.into_bytes()))
                    }
                    Err(_) => Err(failed()),
                }
            }
            (None, None) => Err(violation("unexpected SASL response")),
        }
    }
}

/// The data of SASLInitialResponse: mechanism name, length, client-first-message.
fn initial_response(mut body: Bytes) -> Result<Bytes, SqlError> {
    let malformed = || violation("malformed SASL initial response");
    let end = body.iter().position(|b| *b == 0).ok_or_else(malformed)?;
    if &body[..end] != MECHANISM.as_bytes() {
        return Err(violation("client selected an invalid SASL authentication mechanism"));
    }
    body.advance(end + 1);
    let length = body.try_get_i32().map_err(|_| malformed())?;
    let length = usize::try_from(length).map_err(|_| malformed())?;
    if length != body.len() {
        return Err(malformed());
    }
    Ok(body)
}
