//! The command line of every peer (../../README.md), as far as quinn can do it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub const EX_USAGE: i32 = 64;
pub const CIPHERS: [&str; 3] = ["aes128", "aes256", "chacha20"];
const BOTH: &[&str] = &["alpn", "cipher", "max-uni", "max-bidi", "idle", "keylog", "key-update-after", "quiet"];
const SERVER: &[&str] = &["retry", "zero-rtt", "echo", "push", "push-size", "probe-every", "close-after", "close-code"];
const CLIENT: &[&str] = &[
    "streams",
    "size",
    "bidi",
    "expect",
    "datagrams",
    "count",
    "zero-rtt",
    "rebind-after",
    "version-negotiation",
    "bind",
    "interval",
    "hold",
    "wait",
    "timeout",
];
const FLAGS: &[&str] = &["quiet", "retry", "zero-rtt", "echo", "bidi", "version-negotiation", "wait"];

pub struct Options {
    pub server: bool,
    pub address: SocketAddr, // to listen on or to connect to
    pub bind: Option<IpAddr>,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub alpn: String,
    pub cipher: Option<String>,
    pub max_uni: u32,
    pub max_bidi: u32,
    pub idle: u32, // milliseconds
    pub keylog: Option<PathBuf>,
    pub key_update_after: Option<u64>,
    pub quiet: bool,
    pub retry: bool,
    pub zero_rtt: bool,
    pub echo: bool,
    pub push: u64,
    pub push_size: usize,
    pub probe_every: Duration, // zero: no probes
    pub close_after: Option<u64>,
    pub close_code: u32,
    pub streams: u64,
    pub size: usize,
    pub bidi: bool,
    pub expect: u64,
    pub datagrams: u64,
    pub count: u64,
    pub rebind_after: Option<u64>,
    pub version_negotiation: bool,
    pub interval: Duration,
    pub hold: Duration,
    pub wait: bool,
    pub timeout: Duration,
}

pub fn usage(what: &str) -> ! {
    eprintln!("quinn-peer: {what}; see the README beside the peers, and `quinn-peer features`");
    std::process::exit(EX_USAGE)
}

fn quoted(words: &[&str]) -> String {
    format!("[{}]", words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", "))
}

pub fn features() -> String {
    format!(
        "{{\"engine\": \"quinn\", \"version\": \"{}\", \"certificate\": \"ed25519\", \"acked\": true, \"ciphers\": {}, \"server\": {}, \"client\": {}}}",
        env!("QUINN_VERSION"),
        quoted(&CIPHERS),
        quoted(&[BOTH, SERVER].concat()),
        quoted(&[BOTH, CLIENT].concat())
    )
}

struct Given {
    values: HashMap<String, String>,
    flags: HashSet<String>,
}

impl Given {
    fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    fn required(&self, name: &str) -> String {
        self.text(name).unwrap_or_else(|| usage(&format!("--{name} is missing")))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)
            .map(|v| v.parse().unwrap_or_else(|_| usage(&format!("--{name} {v}: not understood"))))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        self.parsed(name).unwrap_or(default)
    }

    fn flag(&self, name: &str) -> bool {
        self.flags.contains(name)
    }

    fn milliseconds(&self, name: &str, default: u64) -> Duration {
        Duration::from_millis(self.number(name, default))
    }
}

pub fn parse(mut words: impl Iterator<Item = String>) -> Options {
    let role = words.next().unwrap_or_else(|| usage("say features, server or client"));
    let server = match role.as_str() {
        "server" => true,
        "client" => false,
        "features" => {
            println!("{}", features());
            std::process::exit(0)
        }
        other => usage(&format!("{other}: no such role")),
    };
    let address = if server { "listen" } else { "connect" };
    let known = [BOTH, if server { SERVER } else { CLIENT }, &[address, "cert", "key"]].concat();
    let mut given = Given {
        values: HashMap::new(),
        flags: HashSet::new(),
    };
    while let Some(word) = words.next() {
        let name = word
            .strip_prefix("--")
            .filter(|n| known.contains(n))
            .unwrap_or_else(|| usage(&format!("{word}: quinn cannot do that")));
        if FLAGS.contains(&name) {
            given.flags.insert(name.into());
        } else {
            let value = words.next().unwrap_or_else(|| usage(&format!("{word} needs a value")));
            given.values.insert(name.into(), value);
        }
    }
    let cipher = given.text("cipher");
    if cipher.as_deref().is_some_and(|c| !CIPHERS.contains(&c)) {
        usage("--cipher is aes128, aes256 or chacha20");
    }
    Options {
        server,
        address: given
            .required(address)
            .parse()
            .unwrap_or_else(|_| usage(&format!("--{address} is ADDRESS:PORT"))),
        bind: given.parsed("bind"),
        cert: given.required("cert").into(),
        key: given.required("key").into(),
        alpn: given.text("alpn").unwrap_or_else(|| "solana-tpu".into()),
        cipher,
        max_uni: given.number("max-uni", 128),
        max_bidi: given.number("max-bidi", 128),
        idle: given.number("idle", 30_000),
        keylog: given.parsed("keylog"),
        key_update_after: given.parsed("key-update-after"),
        quiet: given.flag("quiet"),
        retry: given.flag("retry"),
        zero_rtt: given.flag("zero-rtt"),
        echo: given.flag("echo"),
        push: given.number("push", 0),
        push_size: given.number("push-size", 17),
        probe_every: Duration::from_micros(given.number("probe-every", 0)),
        close_after: given.parsed("close-after"),
        close_code: given.number("close-code", 5),
        streams: given.number("streams", 1),
        size: given.number("size", 235),
        bidi: given.flag("bidi"),
        expect: given.number("expect", 0),
        datagrams: given.number("datagrams", 0),
        count: given.number("count", 1),
        rebind_after: given.parsed("rebind-after"),
        version_negotiation: given.flag("version-negotiation"),
        interval: given.milliseconds("interval", 0),
        hold: given.milliseconds("hold", 0),
        wait: given.flag("wait"),
        timeout: given.milliseconds("timeout", 20_000),
    }
}
