//! TLS as validators do it: self-signed certificates on both sides, no issuer checked, the signature always.
//!
//! rustls asks a verifier for the peer's certificate only in a full handshake. quinn does not tell whether a session was
//! resumed, so the verifier's flag does: `Verifier::asked`.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{ring, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::StoresServerSessions;
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, DigitallySignedStruct, DistinguishedName, Error, KeyLogFile, NamedGroup, SignatureScheme};
use tokio::sync::Notify;

use crate::options::Options;

/// What tells a handshake apart from a resumption.
#[derive(Debug)]
pub struct Verifier {
    provider: Arc<CryptoProvider>,
    asked: AtomicBool,
}

impl Verifier {
    pub fn new(options: &Options) -> Arc<Self> {
        Arc::new(Self {
            provider: provider(options),
            asked: AtomicBool::new(false),
        })
    }

    /// Whether the peer showed a certificate since the last call.
    pub fn asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    fn verify(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        self.asked.store(true, Ordering::Relaxed);
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC is TLS 1.3".into()))
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC is TLS 1.3".into()))
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The session store of rustls, which also says that a ticket came.
#[derive(Debug)]
pub struct Sessions {
    store: ClientSessionMemoryCache,
    pub arrived: Notify,
}

impl Sessions {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            store: ClientSessionMemoryCache::new(64),
            arrived: Notify::new(),
        })
    }
}

/// A clock that stands still, by which every ticket of this process is as old as nothing.
///
/// rustls tells the age of a ticket (RFC 8446 4.2.11) as the difference of two clocks of whole seconds: one that is two milliseconds
/// old is a second old when a second of the clock ended in between. A server may refuse early data with a ticket that says it is
/// older than it can be, and GnuTLS does; one that says it is younger is let pass for ten seconds.
#[derive(Debug)]
struct Standstill(UnixTime);

impl TimeProvider for Standstill {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(server, group)
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.store.set_tls12_session(server, value)
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.store.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.store.remove_tls12_session(server)
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.store.insert_tls13_ticket(server, value);
        self.arrived.notify_one();
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.store.take_tls13_ticket(server)
    }
}

/// quinn's Initial packets need AES-128-GCM at hand even where another suite is the only one offered: QUIC takes it from
/// `initial`, below, not from what TLS negotiates.
fn provider(options: &Options) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if let Some(cipher) = &options.cipher {
        let wanted = match cipher.as_str() {
            "aes128" => CipherSuite::TLS13_AES_128_GCM_SHA256,
            "aes256" => CipherSuite::TLS13_AES_256_GCM_SHA384,
            _ => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        };
        provider.cipher_suites.retain(|suite| suite.suite() == wanted);
    }
    Arc::new(provider)
}

fn initial() -> rustls::quic::Suite {
    ring::cipher_suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .and_then(|suite| suite.quic_suite())
        .expect("ring has AES-128-GCM for QUIC")
}

fn identity(options: &Options) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let fail = |path: &std::path::Path, e: rustls::pki_types::pem::Error| -> ! { crate::options::usage(&format!("{}: {e}", path.display())) };
    let cert = CertificateDer::from_pem_file(&options.cert).unwrap_or_else(|e| fail(&options.cert, e));
    let key = PrivateKeyDer::from_pem_file(&options.key).unwrap_or_else(|e| fail(&options.key, e));
    (vec![cert], key)
}

pub fn server(options: &Options, verifier: Arc<Verifier>, sessions: Arc<dyn StoresServerSessions>) -> quinn::crypto::rustls::QuicServerConfig {
    let (chain, key) = identity(options);
    let mut config = rustls::ServerConfig::builder_with_provider(provider(options))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .unwrap_or_else(|e| crate::options::usage(&format!("TLS: {e}")));
    config.alpn_protocols = vec![options.alpn.clone().into_bytes()];
    config.session_storage = sessions; // stateful: rustls takes no early data with stateless tickets
    config.max_early_data_size = if options.zero_rtt { u32::MAX } else { 0 };
    if options.keylog.is_some() {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    quinn::crypto::rustls::QuicServerConfig::with_initial(Arc::new(config), initial()).expect("TLS 1.3 is on")
}

pub fn client(options: &Options, verifier: Arc<Verifier>, sessions: Arc<Sessions>) -> quinn::crypto::rustls::QuicClientConfig {
    let (chain, key) = identity(options);
    let mut config = rustls::ClientConfig::builder_with_details(provider(options), Arc::new(Standstill(UnixTime::now())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.dangerous().with_custom_certificate_verifier(verifier).with_client_auth_cert(chain, key))
        .unwrap_or_else(|e| crate::options::usage(&format!("TLS: {e}")));
    config.alpn_protocols = vec![options.alpn.clone().into_bytes()];
    config.resumption = Resumption::store(sessions);
    config.enable_early_data = options.zero_rtt;
    if options.keylog.is_some() {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    quinn::crypto::rustls::QuicClientConfig::with_initial(Arc::new(config), initial()).expect("TLS 1.3 is on")
}
