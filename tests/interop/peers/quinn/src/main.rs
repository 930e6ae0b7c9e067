//! The peer around quinn, the engine that Solana validators run. Contract: ../../README.md.
//!
//!     main -+- serve: accepts; one task a connection          Connection: what both roles do with one of them:
//!           +- dial:  one connection after the other          receive streams and datagrams, count, update keys, say events
//!
//! One thread: events come out in the order in which things happened.

mod options;
mod tls;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use options::Options;
use quinn::{ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime, TransportConfig, VarInt};
use ring::digest::{digest, SHA256};
use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout_at, Instant};

const QUIC_V1: u32 = 1;
/// quinn can begin only with versions whose Initial keys it knows: a draft that nobody speaks any more stands for one that
/// does not exist.
const ABSENT_VERSION: u32 = 0xff00_001d;
const STREAM_MAX: usize = 1 << 26; // bytes of one stream that are held to be hashed
const PROBE_MAGIC: u8 = 0xa5;
const CONNECTION_WINDOW: u32 = 8 << 20; // bytes: what Agave grants
const EX_INCOMPLETE: i32 = 1;
const EX_UNREACHABLE: i32 = 69;

fn hex(data: &[u8]) -> String {
    data.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn sha256(data: &[u8]) -> String {
    hex(digest(&SHA256, data).as_ref())
}

fn payload(index: u64, size: usize) -> Vec<u8> {
    let block = digest(&SHA256, &index.to_be_bytes());
    block.as_ref().iter().copied().cycle().take(size).collect()
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

fn say(event: &str, fields: &str) {
    let line = format!("{{\"event\": \"{event}\"{}{fields}}}\n", if fields.is_empty() { "" } else { ", " });
    let mut out = std::io::stdout().lock();
    // Whoever reads us may be gone: then there is nothing left to be said to.
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(EX_INCOMPLETE);
    }
}

#[derive(Default)]
struct Sums {
    streams: Cell<u64>,
    bytes: Cell<u64>,
    datagrams: Cell<u64>,
    acked: Cell<u64>,
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

struct Connection {
    quic: quinn::Connection,
    number: u64,
    options: Rc<Options>,
    sums: Rc<Sums>,
    received: Cell<u64>, // streams, whole
    acked: Cell<u64>,    // streams of ours
    updated: Cell<bool>, // keys
    said: Cell<bool>,    // that it is closed
    changed: Notify,
}

impl Connection {
    fn new(quic: quinn::Connection, number: u64, options: &Rc<Options>, sums: &Rc<Sums>) -> Rc<Self> {
        let made = Rc::new(Self {
            quic,
            number,
            options: options.clone(),
            sums: sums.clone(),
            received: Cell::new(0),
            acked: Cell::new(0),
            updated: Cell::new(false),
            said: Cell::new(false),
            changed: Notify::new(),
        });
        spawn_local(made.clone().take_uni());
        spawn_local(made.clone().take_bidi());
        spawn_local(made.clone().take_datagrams());
        made
    }

    fn connected(&self, resumed: bool, early: Option<bool>) {
        let early = early.map_or("null".into(), |known| known.to_string());
        let handshake = self
            .quic
            .handshake_data()
            .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
        let alpn = handshake
            .and_then(|data| data.protocol)
            .map_or("null".into(), |name| quoted(&String::from_utf8_lossy(&name)));
        let chain = self.quic.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let certificate = chain.and_then(|chain| chain.first().map(|cert| quoted(&sha256(cert)))).unwrap_or("null".into());
        // quinn does not tell the suite: it is known where only one was allowed.
        let cipher = self.options.cipher.as_deref().map_or("null".into(), quoted);
        say(
            "connected",
            &format!(
                "\"conn\": {}, \"resumed\": {resumed}, \"early_data\": {early}, \"cipher\": {cipher}, \"version\": {QUIC_V1}, \"alpn\": {alpn}, \"certificate\": {certificate}",
                self.number
            ),
        );
    }

    fn delivered(&self) -> u64 {
        self.received.get() + self.acked.get()
    }

    fn count(&self) {
        if self.options.key_update_after.is_some_and(|n| self.delivered() >= n) && !self.updated.replace(true) {
            self.quic.force_key_update();
            say("key_update", &format!("\"conn\": {}", self.number));
        }
        if self.options.close_after.is_some_and(|n| self.delivered() >= n) {
            self.close(self.options.close_code, "enough");
        }
        self.changed.notify_waiters();
    }

    async fn take_uni(self: Rc<Self>) {
        while let Ok(stream) = self.quic.accept_uni().await {
            let here = self.clone();
            spawn_local(async move { here.take(stream).await });
        }
    }

    async fn take_bidi(self: Rc<Self>) {
        while let Ok((mut send, recv)) = self.quic.accept_bi().await {
            let here = self.clone();
            spawn_local(async move {
                if let Some(data) = here.take(recv).await {
                    let answer = if here.options.echo { &data[..] } else { &[] };
                    if send.write_all(answer).await.is_ok() && send.finish().is_ok() {
                        here.acknowledged(send).await;
                    }
                }
            });
        }
    }

    async fn take(&self, mut stream: RecvStream) -> Option<Vec<u8>> {
        let data = stream.read_to_end(STREAM_MAX).await.ok()?;
        add(&self.sums.streams, 1);
        add(&self.sums.bytes, data.len() as u64);
        add(&self.received, 1);
        if !self.options.quiet {
            let id = u64::from(VarInt::from(stream.id()));
            say(
                "stream",
                &format!(
                    "\"conn\": {}, \"id\": {id}, \"bytes\": {}, \"sha256\": \"{}\"",
                    self.number,
                    data.len(),
                    sha256(&data)
                ),
            );
        }
        self.count();
        Some(data)
    }

    async fn take_datagrams(self: Rc<Self>) {
        while let Ok(data) = self.quic.read_datagram().await {
            add(&self.sums.datagrams, 1);
            if !self.options.quiet {
                say(
                    "datagram",
                    &format!("\"conn\": {}, \"bytes\": {}, \"sha256\": \"{}\"", self.number, data.len(), sha256(&data)),
                );
            }
        }
    }

    /// Waits until all of a finished stream is acknowledged; false where it never will be.
    async fn acknowledged(&self, stream: SendStream) -> bool {
        if !matches!(stream.stopped().await, Ok(None)) {
            return false;
        }
        add(&self.sums.acked, 1);
        add(&self.acked, 1);
        if !self.options.quiet {
            let id = u64::from(VarInt::from(stream.id()));
            say("acked", &format!("\"conn\": {}, \"id\": {id}", self.number));
        }
        self.count();
        true
    }

    /// Opens one stream, waiting for the peer's credit, and writes it; the acknowledgement is waited for beside.
    async fn send(self: &Rc<Self>, data: &[u8], bidi: bool) -> bool {
        let mut stream = if bidi {
            let Ok((send, recv)) = self.quic.open_bi().await else { return false };
            let here = self.clone();
            spawn_local(async move { here.take(recv).await });
            send
        } else {
            let Ok(send) = self.quic.open_uni().await else { return false };
            send
        };
        if stream.write_all(data).await.is_err() || stream.finish().is_err() {
            return false;
        }
        let here = self.clone();
        spawn_local(async move { here.acknowledged(stream).await });
        true
    }

    /// Probes, each in a stream of its own. No timer of tokio's is that fine, so we spin; each round lets the engine look at
    /// its socket. What is late makes the later ones late: the peer may begin to acknowledge long after we begin to send.
    /// What becomes of a probe nobody waits for: that would be half of the work.
    async fn probe(&self, count: u64, every: Duration) {
        let mut due = std::time::Instant::now();
        for sequence in 0..count {
            loop {
                tokio::task::yield_now().await; // also when we are late: each probe is a packet of its own
                let now = std::time::Instant::now();
                if now >= due {
                    due = (due + every).max(now);
                    break;
                }
            }
            let Ok(mut stream) = self.quic.open_uni().await else { return };
            let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
            let mut data = [PROBE_MAGIC; 17];
            data[1..9].copy_from_slice(&clock.to_le_bytes());
            data[9..].copy_from_slice(&sequence.to_le_bytes());
            if stream.write_all(&data).await.is_err() || stream.finish().is_err() {
                return;
            }
        }
    }

    /// We close: quinn would not say with what.
    fn close(&self, code: u32, reason: &str) {
        if self.quic.close_reason().is_none() {
            self.quic.close(code.into(), reason.as_bytes());
            self.said.set(true);
            say_closed(self.number, code.into(), reason, true, "local");
        }
    }

    /// Waits for the end and says it, unless it was we who closed and said so.
    async fn closed(&self) {
        match self.quic.closed().await {
            ConnectionError::LocallyClosed if self.said.get() => {}
            error => closed(self.number, &error),
        }
    }

    /// Waits until `ready`; false where the connection ends before, or time is over.
    async fn until(&self, deadline: Instant, ready: impl Fn() -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            if ready() {
                return true;
            }
            tokio::select! {
                _ = changed => {}
                _ = self.quic.closed() => return ready(),
                _ = tokio::time::sleep_until(deadline) => return false,
            }
        }
    }
}

fn closed(number: u64, error: &ConnectionError) {
    let (code, reason, application, by) = match error {
        ConnectionError::ApplicationClosed(frame) => (frame.error_code.into_inner(), String::from_utf8_lossy(&frame.reason).into_owned(), true, "peer"),
        ConnectionError::ConnectionClosed(frame) => (u64::from(frame.error_code), String::from_utf8_lossy(&frame.reason).into_owned(), false, "peer"),
        ConnectionError::TransportError(error) => (u64::from(error.code), error.reason.clone(), false, "local"),
        ConnectionError::LocallyClosed => (0, "stopped".into(), true, "local"),
        ConnectionError::TimedOut => (0, "timed out".into(), false, "idle"),
        ConnectionError::Reset => (0, "stateless reset".into(), false, "reset"),
        ConnectionError::VersionMismatch => (0, "no common version".into(), false, "version"),
        other => (0, other.to_string(), false, "local"),
    };
    say_closed(number, code, &reason, application, by);
}

fn say_closed(number: u64, code: u64, reason: &str, application: bool, by: &str) {
    let reason = quoted(reason);
    say(
        "closed",
        &format!("\"conn\": {number}, \"code\": {code}, \"reason\": {reason}, \"application\": {application}, \"by\": \"{by}\""),
    );
}

fn transport(options: &Options) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(options.max_uni.into())
        .max_concurrent_bidi_streams(options.max_bidi.into())
        .receive_window(CONNECTION_WINDOW.into())
        .max_idle_timeout(Some(VarInt::from_u32(options.idle).into()));
    Arc::new(config)
}

fn endpoint(address: SocketAddr, versions: &[u32]) -> Endpoint {
    let mut config = EndpointConfig::default();
    config.supported_versions(versions.to_vec());
    let made = UdpSocket::bind(address).and_then(|socket| Endpoint::new(config, None, socket, Arc::new(TokioRuntime)));
    made.unwrap_or_else(|error| {
        eprintln!("quinn-peer: {address}: {error}");
        std::process::exit(EX_UNREACHABLE)
    })
}

async fn serve(options: Rc<Options>, sums: Rc<Sums>) -> i32 {
    let endpoint = endpoint(options.address, &[QUIC_V1]);
    let sessions = rustls::server::ServerSessionMemoryCache::new(256);
    let config = |verifier| {
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server(&options, verifier, sessions.clone())));
        config.transport_config(transport(&options));
        config
    };
    endpoint.set_server_config(Some(config(tls::Verifier::new(&options))));
    say("ready", &format!("\"port\": {}", endpoint.local_addr().map_or(0, |address| address.port())));
    let mut number = 0;
    let running = Rc::new(RefCell::new(Vec::new()));
    let accept = async {
        while let Some(incoming) = endpoint.accept().await {
            if options.retry && !incoming.remote_address_validated() {
                let _ = incoming.retry(); // fails only for an address that is validated
                continue;
            }
            let verifier = tls::Verifier::new(&options); // one a connection: its flag belongs to that alone
            let Ok(connecting) = incoming.accept_with(Arc::new(config(verifier.clone()))) else {
                continue;
            };
            let (options, sums) = (options.clone(), sums.clone());
            running.borrow_mut().push(spawn_local(accepted(connecting, number, options, sums, verifier)));
            number += 1;
        }
    };
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    tokio::select! {
        _ = accept => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    endpoint.close(0u32.into(), b"");
    for task in running.take() {
        let _ = task.await; // it ends with its connection
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    0
}

async fn accepted(connecting: quinn::Connecting, number: u64, options: Rc<Options>, sums: Rc<Sums>, verifier: Arc<tls::Verifier>) {
    // A server always gets its connection early; what it resolves to says when the handshake is complete.
    let (quic, complete) = match connecting.into_0rtt() {
        Ok(pair) => pair,
        Err(_) => return,
    };
    let connection = Connection::new(quic, number, &options, &sums);
    complete.await;
    match connection.quic.close_reason() {
        // Before the handshake is complete nobody can close in the name of an application (RFC 9000 10.2.3).
        Some(error) if !matches!(error, ConnectionError::ApplicationClosed(_)) && connection.delivered() == 0 => return closed(number, &error),
        _ => {}
    }
    let resumed = !verifier.asked();
    // quinn does not tell a server what became of early data.
    connection.connected(resumed, if resumed && options.zero_rtt { None } else { Some(false) });
    if !options.probe_every.is_zero() {
        connection.probe(options.push, options.probe_every).await;
        return connection.closed().await;
    }
    for index in 0..options.push {
        if !connection.send(&payload(index, options.push_size), false).await {
            break;
        }
    }
    connection.closed().await;
}

async fn dial(
    options: &Rc<Options>,
    sums: &Rc<Sums>,
    endpoint: &Endpoint,
    config: &quinn::ClientConfig,
    number: u64,
    verifier: &tls::Verifier,
    sessions: &tls::Sessions,
) -> i32 {
    let deadline = Instant::now() + options.timeout;
    let name = options.address.ip().to_string();
    let connect = |version: u32| {
        let mut config = config.clone();
        config.version(version);
        endpoint
            .connect_with(config, options.address, &name)
            .unwrap_or_else(|error| options::usage(&error.to_string()))
    };
    if options.version_negotiation {
        match timeout_at(deadline, connect(ABSENT_VERSION)).await {
            Ok(Err(ConnectionError::VersionMismatch)) => say("version_negotiation", &format!("\"conn\": {number}, \"offered\": null")),
            Ok(Err(error)) => {
                closed(number, &error);
                return EX_UNREACHABLE;
            }
            Ok(Ok(_)) => options::usage("the server speaks draft 29: no version is left to be refused"),
            Err(_) => return EX_UNREACHABLE,
        }
    }
    let dialled = connect(QUIC_V1);
    let (quic, early) = if options.zero_rtt {
        match dialled.into_0rtt() {
            Ok((quic, accepted)) => (Ok(quic), Some(accepted)),
            Err(dialled) => (timeout_at(deadline, dialled).await.unwrap_or(Err(ConnectionError::TimedOut)), None),
        }
    } else {
        (timeout_at(deadline, dialled).await.unwrap_or(Err(ConnectionError::TimedOut)), None)
    };
    let quic = match quic {
        Ok(quic) => quic,
        Err(error) => {
            closed(number, &error);
            return EX_UNREACHABLE;
        }
    };
    let connection = Connection::new(quic, number, options, sums);
    let mut shaken = early.is_none();
    if shaken {
        connection.connected(!verifier.asked(), Some(false));
    }
    let done = tokio::time::timeout_at(deadline, work(&connection, endpoint, early, &mut shaken, deadline, verifier))
        .await
        .unwrap_or(false);
    if done && options.count > 1 {
        // The ticket comes after the handshake, usually before our first acknowledgement.
        if tokio::time::timeout_at(deadline, sessions.arrived.notified()).await.is_ok() {
            say("session", &format!("\"conn\": {number}"));
        }
    }
    if done {
        // Caught from before we say so on.
        let mut go = signal(SignalKind::user_defined2()).expect("SIGUSR2 can be caught");
        say("done", &format!("\"conn\": {number}"));
        if options.wait {
            tokio::select! {
                _ = go.recv() => {}
                _ = connection.quic.closed() => {}
            }
        }
    }
    if done && !options.hold.is_zero() {
        connection.until(Instant::now() + options.hold, || false).await;
    }
    match connection.quic.close_reason() {
        Some(error) => closed(number, &error), // somebody was faster
        None => connection.close(0, if done { "done" } else { "not done" }),
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    match (done, shaken) {
        (true, _) => 0,
        (false, true) => EX_INCOMPLETE,
        (false, false) => EX_UNREACHABLE,
    }
}

/// Sends what was asked for and waits until it is delivered, and until what is expected is received.
async fn work(
    connection: &Rc<Connection>,
    endpoint: &Endpoint,
    early: Option<quinn::ZeroRttAccepted>,
    shaken: &mut bool,
    deadline: Instant,
    verifier: &tls::Verifier,
) -> bool {
    let options = connection.options.clone();
    let mut sent = burst(connection, endpoint, deadline).await;
    if let Some(accepted) = early {
        let accepted = accepted.await;
        *shaken = connection.quic.close_reason().is_none();
        if !*shaken {
            return false;
        }
        connection.connected(!verifier.asked(), Some(accepted));
        if !accepted {
            // Refused early data is gone, with its streams: all of it goes once more.
            sent = burst(connection, endpoint, deadline).await;
        }
    }
    if !sent {
        return false;
    }
    let expected = options.expect + if options.bidi { options.streams } else { 0 };
    connection
        .until(deadline, || connection.acked.get() >= options.streams && connection.received.get() >= expected)
        .await
}

async fn burst(connection: &Rc<Connection>, endpoint: &Endpoint, deadline: Instant) -> bool {
    let options = connection.options.clone();
    for index in 0..options.streams {
        if index > 0 && !options.interval.is_zero() {
            sleep(options.interval).await;
        }
        if options.rebind_after == Some(index) && !moved(connection, endpoint, deadline, index).await {
            return false;
        }
        if !connection.send(&payload(index, options.size), options.bidi).await {
            return false;
        }
    }
    for index in 0..options.datagrams {
        if let Err(error) = connection.quic.send_datagram_wait(payload(index, options.size).into()).await {
            eprintln!("quinn-peer: datagram {index}: {error}");
            return false;
        }
    }
    match options.rebind_after {
        Some(after) if after >= options.streams => moved(connection, endpoint, deadline, options.streams).await,
        _ => true,
    }
}

/// A NAT forgets its binding: the same connection IDs come from another port from now on.
async fn moved(connection: &Connection, endpoint: &Endpoint, deadline: Instant, after: u64) -> bool {
    if !connection.until(deadline, || connection.acked.get() >= after).await {
        return false;
    }
    let mut address = endpoint.local_addr().expect("the endpoint is bound");
    address.set_port(0);
    let rebound = UdpSocket::bind(address)
        .and_then(|socket| endpoint.rebind(socket))
        .and_then(|()| endpoint.local_addr());
    match rebound {
        Ok(address) => say("rebound", &format!("\"conn\": {}, \"port\": {}", connection.number, address.port())),
        Err(error) => eprintln!("quinn-peer: rebinding: {error}"),
    }
    connection.quic.close_reason().is_none()
}

async fn call(options: Rc<Options>, sums: Rc<Sums>) -> i32 {
    let any: IpAddr = if options.address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let versions: &[u32] = if options.version_negotiation {
        &[QUIC_V1, ABSENT_VERSION]
    } else {
        &[QUIC_V1]
    };
    let endpoint = endpoint(SocketAddr::new(options.bind.unwrap_or(any), 0), versions);
    let (verifier, sessions) = (tls::Verifier::new(&options), tls::Sessions::new());
    let mut config = quinn::ClientConfig::new(Arc::new(tls::client(&options, verifier.clone(), sessions.clone())));
    config.transport_config(transport(&options));
    for number in 0..options.count {
        let code = dial(&options, &sums, &endpoint, &config, number, &verifier, &sessions).await;
        if code != 0 {
            return code;
        }
    }
    0
}

fn main() {
    let options = Rc::new(options::parse(std::env::args().skip(1)));
    if let Some(path) = &options.keylog {
        std::env::set_var("SSLKEYLOGFILE", path); // rustls' own writer takes its file from there
    }
    let sums = Rc::new(Sums::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let code = local.block_on(&runtime, async {
        if options.server {
            serve(options.clone(), sums.clone()).await
        } else {
            call(options.clone(), sums.clone()).await
        }
    });
    let sums = format!(
        "\"streams\": {}, \"bytes\": {}, \"datagrams\": {}, \"acked\": {}",
        sums.streams.get(),
        sums.bytes.get(),
        sums.datagrams.get(),
        sums.acked.get()
    );
    say("summary", &sums);
    std::process::exit(code);
}
