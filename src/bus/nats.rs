//! NATS JetStream: one stream that keeps events for whoever consumes them there, and rings between
//! instances. A transport: whatever it loses is still in the store, and is handed over again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{GetStreamErrorKind, PublishAckFuture};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, ServerAddr};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::{Bells, Bus, BusError, Found, Message, Published, Ring};
use crate::metrics::{Dependency, Metrics};

/// The stream that keeps events.
pub const STREAM: &str = "ORCH_EVENTS";
/// What it keeps.
const SUBJECTS: &str = "orch.>";
/// How long, and how much; the oldest go first. The store keeps them all the same.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const BYTES_MAX: i64 = 1 << 30;
/// For so long an event that comes again is known by its id.
const DUPLICATES: Duration = Duration::from_secs(600);
/// Before the name of a ring.
const RINGS: &str = "orchestrator.ring.";
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two pings; two that are not answered end the connection.
const PING: Duration = Duration::from_secs(2);
/// Between two tries to connect, at most.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What NATS is reached by.
pub struct NatsOptions {
    /// `nats://` or `tls://`, with its password.
    pub url: SecretString,
    /// PEM with the authority of the server's certificate; the system's unless set.
    pub ca_file: Option<PathBuf>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Why NATS cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// Not an address.
    #[error("nats.url is no address of NATS; write nats://USER:PASSWORD@HOST:4222, or tls://")]
    BadAddress,
    /// The file of the authority is of no use.
    #[error("reading nats.ca_file `{file}`: {reason}")]
    Authority {
        /// As given.
        file: String,
        /// Why.
        reason: String,
    },
}

/// A bus that instances share.
pub struct Nats {
    address: ServerAddr,
    ca_file: Option<PathBuf>,
    metrics: Arc<Metrics>,
    bells: Bells,
    link: OnceLock<Link>,
    owed: [AtomicBool; Ring::ALL.len()],
    owes: Notify,
}

struct Link {
    client: Client,
    streams: Context,
}

impl Nats {
    /// Connects to nothing yet: [`Bus::keep`] does.
    ///
    /// # Errors
    /// What can never work: an address that is none, an authority that cannot be read.
    pub fn new(options: NatsOptions) -> Result<Nats, NatsError> {
        let address = options.url.expose_secret().parse();
        let address: ServerAddr = address.map_err(|_| NatsError::BadAddress)?;
        if address.host().is_empty() {
            return Err(NatsError::BadAddress);
        }
        if let Some(file) = &options.ca_file {
            let read = std::fs::read_to_string(file).map_err(|error| error.to_string());
            let read = read.and_then(|text| match text.contains("-----BEGIN CERTIFICATE-----") {
                true => Ok(()),
                false => Err("holds no certificate in PEM".to_owned()),
            });
            let file = file.display().to_string();
            read.map_err(|reason| NatsError::Authority { file, reason })?;
        }
        options.metrics.dependency(Dependency::Nats, false);
        Ok(Nats {
            address,
            ca_file: options.ca_file,
            metrics: options.metrics,
            bells: Bells::default(),
            link: OnceLock::new(),
            owed: Default::default(),
            owes: Notify::new(),
        })
    }

    async fn connect(&self) -> Result<Client, async_nats::ConnectError> {
        let pause = |attempt: usize| {
            let doubled = Duration::from_millis(50).saturating_mul(1 << attempt.min(8));
            doubled.min(RETRY_MAX)
        };
        let mut options = ConnectOptions::new()
            .name("orchestrator")
            .no_echo()
            .retry_on_initial_connect()
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ping_interval(PING)
            .reconnect_delay_callback(pause)
            .event_callback(async |event| tracing::debug!(%event, "NATS"));
        // The client reads neither from the address.
        options = match (self.address.username(), self.address.password()) {
            (Some(user), Some(password)) => {
                options.user_and_password(decoded(user), decoded(password))
            }
            (Some(token), None) => options.token(decoded(token)),
            (None, _) => options,
        };
        if let Some(file) = &self.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        options.connect(self.address.clone()).await
    }

    /// The link, where somebody answers at its other end.
    fn link(&self) -> Result<&Link, BusError> {
        let link = self.link.get().ok_or(BusError::Away)?;
        match link.client.connection_state() {
            State::Connected => Ok(link),
            State::Pending | State::Disconnected => Err(BusError::Away),
        }
    }

    async fn prepared(&self) -> Result<Found, BusError> {
        let streams = &self.link()?.streams;
        if let Err(error) = streams.get_stream(STREAM).await {
            let is_missing =
                matches!(error.kind(), GetStreamErrorKind::JetStream(said) if said.code() == 404);
            if !is_missing {
                return Err(failed("looking for the stream", error));
            }
        } else {
            return Ok(Found::Kept);
        }
        let config = Config {
            name: STREAM.to_owned(),
            description: Some("Events of the orchestrator; see docs/events.md".to_owned()),
            subjects: vec![SUBJECTS.to_owned()],
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_age: AGE_MAX,
            max_bytes: BYTES_MAX,
            duplicate_window: DUPLICATES,
            ..Config::default()
        };
        streams.create_stream(config).await.map_err(|error| failed("making the stream", error))?;
        tracing::info!(stream = STREAM, "NATS had no stream of events; it was made");
        Ok(Found::Nothing)
    }

    async fn hand_over(&self, messages: &[Message]) -> Published {
        let link = match self.link() {
            Ok(link) => link,
            Err(error) => return Published { taken: 0, error: Some(error) },
        };
        let (mut sent, mut error) = (Vec::with_capacity(messages.len()), None);
        for message in messages {
            match send(&link.streams, message).await {
                Ok(acknowledgement) => sent.push(acknowledgement),
                Err(why) => {
                    error = Some(why);
                    break;
                }
            }
        }
        let mut taken = 0;
        for acknowledgement in sent {
            match acknowledgement.await {
                Ok(_) => taken += 1,
                Err(why) => {
                    error = Some(failed("handing an event over", why));
                    break;
                }
            }
        }
        Published { taken, error }
    }

    /// Takes the rings of others, and passes on those of this process.
    async fn converse(&self, link: &Link) -> Result<(), async_nats::Error> {
        let mut rings = link.client.subscribe(format!("{RINGS}*")).await?;
        let mut look = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                told = rings.next() => {
                    let Some(told) = told else { return Ok(()) };
                    let name = told.subject.strip_prefix(RINGS).unwrap_or_default();
                    let known = Ring::ALL.into_iter().find(|ring| ring.name() == name);
                    known.into_iter().for_each(|ring| self.bells.ring(ring));
                }
                () = self.owes.notified() => self.pass_on(link).await,
                _ = look.tick() => self.metrics.dependency(Dependency::Nats, self.link().is_ok()),
            }
        }
    }

    async fn pass_on(&self, link: &Link) {
        for (ring, owed) in Ring::ALL.into_iter().zip(&self.owed) {
            // Whom nobody wakes now looks by itself.
            if owed.swap(false, Ordering::Relaxed) && self.link().is_ok() {
                let subject = format!("{RINGS}{}", ring.name());
                let _ = timeout(PATIENCE, link.client.publish(subject, "".into())).await;
            }
        }
    }
}

impl Bus for Nats {
    fn prepare(&self) -> BoxFuture<'_, Result<Found, BusError>> {
        Box::pin(self.prepared())
    }

    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Published> {
        Box::pin(self.hand_over(messages))
    }

    fn ring(&self, ring: Ring) {
        self.bells.ring(ring);
        for (other, owed) in Ring::ALL.into_iter().zip(&self.owed) {
            if other == ring {
                owed.store(true, Ordering::Relaxed);
            }
        }
        self.owes.notify_one();
    }

    fn listen(&self, ring: Ring) -> watch::Receiver<u64> {
        self.bells.listen(ring)
    }

    fn is_open(&self) -> Option<bool> {
        Some(self.link().is_ok())
    }

    fn keep(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let client = match self.connect().await {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::warn!(%error, "NATS cannot be reached; it is tried again");
                        tokio::time::sleep(RETRY_MAX).await;
                        continue;
                    }
                };
                let mut streams = jetstream::new(client.clone());
                streams.set_timeout(PATIENCE);
                let link = self.link.get_or_init(|| Link { client, streams });
                if let Err(error) = self.converse(link).await {
                    tracing::warn!(%error, "rings of other instances are not heard");
                }
                tokio::time::sleep(RETRY_MAX).await;
            }
        })
    }
}

async fn send(streams: &Context, message: &Message) -> Result<PublishAckFuture, BusError> {
    let event = PublishMessage::build()
        .payload(message.body.clone())
        .message_id(&message.id)
        .expected_stream(STREAM);
    let sent = timeout(PATIENCE, streams.send_publish(message.subject.clone(), event)).await;
    match sent {
        Ok(sent) => sent.map_err(|error| failed("handing an event over", error)),
        Err(error) => Err(failed("handing an event over", error)),
    }
}

/// What `%41` and the like stand for.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let mut byte = [0];
        match behind.split_at_checked(2) {
            Some((digits, after))
                if first == b'%' && hex::decode_to_slice(digits, &mut byte).is_ok() =>
            {
                bytes.extend(byte);
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn failed(doing: &'static str, error: impl std::fmt::Display) -> BusError {
    BusError::Failed { doing, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn a_password_may_hold_what_an_address_may_not() {
        for (written, meant) in [
            ("plain", "plain"),
            ("a%40b%3Ac%2F", "a@b:c/"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%C3%BC", "%zz\u{fc}"),
        ] {
            assert_eq!(decoded(written), meant);
        }
    }
}
