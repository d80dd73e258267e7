//! A server's configuration: layers of options, laid over each other and checked.
//!
//! ```text
//! flag > environment variable > file > default
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use duramen_group::{Assignor, UniformSticky};
use serde::Deserialize;

use crate::connect::split_address;
use crate::error::CliError;
use crate::limits;
use crate::logging::{LogFormat, LogOptions};

/// The variable that names the file.
pub(crate) const FILE_VARIABLE: &str = "DURAMEN_CONFIG";

/// What a server logs if nobody says. Libraries warn of every call to a node that is down, several
/// times a second and partition; what matters of that, our own crates say once.
pub(crate) const LOG_DEFAULT: &str = "error,duramen=info";

/// What stands for a listener that is not wanted.
const OFF: &str = "off";

/// Free bytes of the disk below which no records are taken: enough to trim, elect and answer.
const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// The variables, in the order of the fields of [`Layer`].
pub(crate) const ENVIRONMENT: [&str; 16] = [
    "DURAMEN_ID",
    "DURAMEN_DIR",
    "DURAMEN_LISTEN",
    "DURAMEN_PEER_LISTEN",
    "DURAMEN_HTTP_LISTEN",
    "DURAMEN_ADVERTISE",
    "DURAMEN_ADVERTISE_PEER",
    "DURAMEN_ADVERTISE_HTTP",
    "DURAMEN_SEED",
    "DURAMEN_RACK",
    "DURAMEN_INSECURE",
    "DURAMEN_DISK_RESERVE_BYTES",
    "DURAMEN_GROUP_ASSIGNOR",
    "DURAMEN_LOG",
    "DURAMEN_LOG_FORMAT",
    FILE_VARIABLE,
];

/// Options from one place; what it does not say is `None`. Field names are the file's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    pub(super) id: Option<u64>,
    pub(super) dir: Option<PathBuf>,
    pub(super) listen: Option<String>,
    pub(super) peer_listen: Option<String>,
    pub(super) http_listen: Option<String>,
    pub(super) advertise: Option<String>,
    pub(super) advertise_peer: Option<String>,
    pub(super) advertise_http: Option<String>,
    pub(super) seed: Option<Vec<String>>,
    pub(super) rack: Option<String>,
    pub(super) insecure: Option<bool>,
    pub(super) disk_reserve_bytes: Option<u64>,
    pub(super) group_assignor: Option<String>,
    pub(super) log: Option<String>,
    pub(super) log_format: Option<LogFormat>,
}

impl Layer {
    /// Reads the variables; an empty one counts as not set.
    pub(super) fn from_environment(
        read: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CliError> {
        let text = |name: &str| read(name).filter(|text| !text.is_empty());
        let number = |name: &str| match text(name).map(|text| text.parse::<u64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(CliError::Usage(format!("{name} must be a whole number"))),
        };
        let insecure = match text("DURAMEN_INSECURE").as_deref() {
            None => None,
            Some("1" | "true" | "yes") => Some(true),
            Some("0" | "false" | "no") => Some(false),
            Some(_) => {
                return Err(CliError::Usage("DURAMEN_INSECURE must be true or false".into()));
            }
        };
        let log_format =
            match text("DURAMEN_LOG_FORMAT") {
                None => None,
                Some(format) => Some(LogFormat::from_str(&format, true).map_err(|_| {
                    CliError::Usage("DURAMEN_LOG_FORMAT must be text or json".into())
                })?),
            };
        let seeds = |text: String| text.split(',').map(|seed| seed.trim().to_owned()).collect();
        Ok(Self {
            id: number("DURAMEN_ID")?,
            dir: text("DURAMEN_DIR").map(PathBuf::from),
            listen: text("DURAMEN_LISTEN"),
            peer_listen: text("DURAMEN_PEER_LISTEN"),
            http_listen: text("DURAMEN_HTTP_LISTEN"),
            advertise: text("DURAMEN_ADVERTISE"),
            advertise_peer: text("DURAMEN_ADVERTISE_PEER"),
            advertise_http: text("DURAMEN_ADVERTISE_HTTP"),
            seed: text("DURAMEN_SEED").map(seeds),
            rack: text("DURAMEN_RACK"),
            insecure,
            disk_reserve_bytes: number("DURAMEN_DISK_RESERVE_BYTES")?,
            group_assignor: text("DURAMEN_GROUP_ASSIGNOR"),
            log: text("DURAMEN_LOG"),
            log_format,
        })
    }

    /// Reads a file. A key that means nothing is an error, so that a typo is found.
    pub(super) fn from_file(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
        Self::from_toml(&text)
            .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
    }

    fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// This layer over another.
    pub(super) fn or(self, below: Self) -> Self {
        Self {
            id: self.id.or(below.id),
            dir: self.dir.or(below.dir),
            listen: self.listen.or(below.listen),
            peer_listen: self.peer_listen.or(below.peer_listen),
            http_listen: self.http_listen.or(below.http_listen),
            advertise: self.advertise.or(below.advertise),
            advertise_peer: self.advertise_peer.or(below.advertise_peer),
            advertise_http: self.advertise_http.or(below.advertise_http),
            seed: self.seed.or(below.seed),
            rack: self.rack.or(below.rack),
            insecure: self.insecure.or(below.insecure),
            disk_reserve_bytes: self.disk_reserve_bytes.or(below.disk_reserve_bytes),
            group_assignor: self.group_assignor.or(below.group_assignor),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
        }
    }
}

/// A server's configuration, complete and checked.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    /// The node's number, from 1.
    pub(crate) id: u64,
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Where clients are served.
    pub(crate) listen: String,
    /// Where other nodes are served.
    pub(crate) peer_listen: String,
    /// Where metrics and health are; `None` = nowhere.
    pub(crate) http_listen: Option<String>,
    /// Where clients reach this node.
    pub(crate) advertise: String,
    /// Where other nodes reach this node.
    pub(crate) advertise_peer: String,
    /// Where metrics and health are reached; empty = nowhere.
    pub(crate) advertise_http: String,
    /// The founders of the cluster, as clients reach them.
    pub(crate) seeds: Vec<String>,
    /// Where the node stands; may be empty.
    pub(crate) rack: String,
    /// Free bytes of the disk below which no records are taken.
    pub(crate) disk_reserve_bytes: u64,
    /// What computes who reads what in groups.
    pub(crate) group_assignor: &'static dyn Assignor,
    /// How it logs.
    pub(crate) log: LogOptions,
}

impl ServerConfig {
    /// Fills in the defaults and checks everything.
    pub(super) fn new(layer: Layer) -> Result<Self, CliError> {
        let id = layer.id.filter(|id| *id > 0);
        let id = id.ok_or_else(|| missing("id", "the node's number in the cluster, from 1"))?;
        let dir = layer.dir.ok_or_else(|| missing("dir", "where the node keeps its data"))?;
        let listen = layer.listen.unwrap_or_else(|| limits::DEFAULT_SERVER.to_owned());
        let (host, port) = address("listen", &listen)?;
        let behind = |step: u16| match port.checked_add(step) {
            Some(port) => Ok(format!("{host}:{port}")),
            None => Err(CliError::Usage(format!(
                "there is no port {step} behind {listen}: give --peer-listen and --http-listen"
            ))),
        };
        let peer_listen = match layer.peer_listen {
            Some(peers) => peers,
            None => behind(limits::PEER_PORT_STEP)?,
        };
        let http_listen = match layer.http_listen {
            Some(http) if http == OFF => None,
            Some(http) => Some(http),
            None => Some(behind(limits::HTTP_PORT_STEP)?),
        };
        let insecure = layer.insecure.unwrap_or(false);
        let listeners = [
            ("listen", Some(&listen)),
            ("peer_listen", Some(&peer_listen)),
            ("http_listen", http_listen.as_ref()),
        ];
        for (name, listener) in listeners {
            if let Some(listener) = listener {
                check_reach(name, listener, insecure)?;
            }
        }
        let advertise = advertised("advertise", layer.advertise, &listen)?;
        let advertise_peer = advertised("advertise_peer", layer.advertise_peer, &peer_listen)?;
        let advertise_http = match &http_listen {
            Some(http) => advertised("advertise_http", layer.advertise_http, http)?,
            None => String::new(),
        };
        Ok(Self {
            id,
            dir,
            listen,
            peer_listen,
            http_listen,
            advertise,
            advertise_peer,
            advertise_http,
            seeds: seeds(layer.seed)?,
            rack: layer.rack.unwrap_or_default(),
            disk_reserve_bytes: layer.disk_reserve_bytes.unwrap_or(DISK_RESERVE_BYTES),
            group_assignor: group_assignor(layer.group_assignor)?,
            log: LogOptions { filter: layer.log, format: layer.log_format },
        })
    }

    /// The address that connections to other nodes go out from: that on which they are served, if
    /// it is one of the machine's and not a name or all of them.
    pub(super) fn source(&self) -> Option<IpAddr> {
        let (host, _) = split_address(&self.peer_listen)?;
        ip(host).filter(|ip| !ip.is_unspecified())
    }
}

impl ServerConfig {
    /// Refuses faults on purpose where others than this machine could meet them.
    pub(super) fn check_unreachable(&self) -> Result<(), CliError> {
        let listeners = [Some(&self.listen), Some(&self.peer_listen), self.http_listen.as_ref()];
        for listener in listeners.into_iter().flatten() {
            if !split_address(listener).is_some_and(|(host, _)| is_loopback(host)) {
                return Err(CliError::Usage(format!(
                    "{listener} can be reached from other machines: a server that misbehaves on \
                     purpose listens on 127.0.0.1 only"
                )));
            }
        }
        Ok(())
    }
}

fn missing(name: &str, what: &str) -> CliError {
    let flag = name.replace('_', "-");
    let variable = name.to_uppercase();
    CliError::Usage(format!(
        "--{flag} is missing: {what} (or DURAMEN_{variable}, or {name} in the file of --config)"
    ))
}

fn address<'a>(name: &str, text: &'a str) -> Result<(&'a str, u16), CliError> {
    split_address(text).filter(|(_, port)| *port > 0).ok_or_else(|| {
        let flag = name.replace('_', "-");
        CliError::Usage(format!("--{flag} {text:?} is no address: give HOST:PORT"))
    })
}

/// Refuses to be reached from other machines unless that is meant.
fn check_reach(name: &str, text: &str, insecure: bool) -> Result<(), CliError> {
    let (host, _) = address(name, text)?;
    if insecure || is_loopback(host) {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{text} can be reached from other machines, and nothing is authenticated or encrypted yet: \
         listen on 127.0.0.1, or add --insecure if the network is yours alone"
    )))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback())
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The address that others are told.
fn advertised(name: &str, given: Option<String>, listen: &str) -> Result<String, CliError> {
    if let Some(given) = given {
        address(name, &given)?;
        return Ok(given);
    }
    let (host, _) = address(name, listen)?;
    if ip(host).is_some_and(|ip| ip.is_unspecified()) {
        let what = format!("{listen} stands for all addresses of this machine; say which one");
        return Err(missing(name, &what));
    }
    Ok(listen.to_owned())
}

fn seeds(given: Option<Vec<String>>) -> Result<Vec<String>, CliError> {
    let seeds = given.unwrap_or_default();
    if seeds.is_empty() {
        let what = "the nodes that form the cluster, the same list on each; for a cluster of one \
                    node, its own address";
        return Err(missing("seed", what));
    }
    for (place, seed) in seeds.iter().enumerate() {
        address("seed", seed)?;
        if seeds.iter().take(place).any(|earlier| earlier == seed) {
            return Err(CliError::Usage(format!("--seed names {seed} twice")));
        }
    }
    Ok(seeds)
}

fn group_assignor(given: Option<String>) -> Result<&'static dyn Assignor, CliError> {
    let Some(name) = given else { return Ok(&UniformSticky) };
    duramen_group::assignor(&name).ok_or_else(|| {
        let known = duramen_group::ASSIGNORS.map(Assignor::name).join(" or ");
        CliError::Usage(format!("--group-assignor {name:?} is none: give {known}"))
    })
}

/// Whether the text of a file is a configuration, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn read(text: &str) -> bool {
    Layer::from_toml(text).is_ok_and(|layer| ServerConfig::new(layer).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn minimal() -> Layer {
        Layer {
            id: Some(1),
            dir: Some("data".into()),
            seed: Some(vec!["127.0.0.1:7650".into()]),
            ..Layer::default()
        }
    }

    fn wrong(layer: Layer) -> String {
        ServerConfig::new(layer).unwrap_err().to_string()
    }

    #[test]
    fn a_server_with_faults_is_not_reached_from_elsewhere() {
        let config = |listen: &str| {
            let (listen, insecure) = (Some(listen.to_owned()), Some(true));
            ServerConfig::new(Layer { listen, insecure, ..minimal() }).unwrap()
        };
        config("127.0.0.1:7650").check_unreachable().unwrap();
        for listen in ["10.0.0.1:7650", "example.org:7650"] {
            let error = config(listen).check_unreachable().unwrap_err().to_string();
            assert!(error.starts_with(listen) && error.contains("on purpose"), "{error}");
        }
    }

    #[test]
    fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
        let flags = Layer { rack: Some("flag".into()), ..Layer::default() };
        let variables: BTreeMap<&str, &str> =
            [("DURAMEN_RACK", "variable"), ("DURAMEN_LISTEN", "127.0.0.1:1000")].into();
        let variables =
            Layer::from_environment(|name| variables.get(name).map(ToString::to_string)).unwrap();
        let file = Layer::from_toml(
            "rack = 'file'\nlisten = '127.0.0.1:2000'\nid = 9\ndir = 'data'\nseed = ['a:1']\n",
        )
        .unwrap();
        let config = ServerConfig::new(flags.or(variables).or(file)).unwrap();
        assert_eq!(config.rack, "flag");
        assert_eq!(config.listen, "127.0.0.1:1000");
        assert_eq!(config.id, 9);
        assert_eq!(config.disk_reserve_bytes, DISK_RESERVE_BYTES);
    }

    #[test]
    fn the_other_listeners_lie_behind_the_first() {
        let config =
            ServerConfig::new(Layer { listen: Some("[::1]:8000".into()), ..minimal() }).unwrap();
        assert_eq!(config.http_listen.as_deref(), Some("[::1]:8001"));
        assert_eq!(config.peer_listen, "[::1]:8002");
        assert_eq!(config.advertise, "[::1]:8000");
        assert_eq!(config.advertise_peer, "[::1]:8002");
        assert_eq!(config.advertise_http, "[::1]:8001");
        assert!(
            wrong(Layer { listen: Some("127.0.0.1:65535".into()), ..minimal() })
                .contains("--peer-listen")
        );
    }

    #[test]
    fn connections_go_out_from_where_other_nodes_are_served_if_that_is_one_address() {
        let source = |peers: &str| {
            let layer =
                Layer { peer_listen: Some(peers.into()), insecure: Some(true), ..minimal() };
            let layer = Layer { advertise_peer: Some("node-1.example:7652".into()), ..layer };
            ServerConfig::new(layer).unwrap().source().map(|ip| ip.to_string())
        };
        assert_eq!(source("127.0.0.2:7652").as_deref(), Some("127.0.0.2"));
        assert_eq!(source("[::1]:7652").as_deref(), Some("::1"));
        assert_eq!(source("localhost:7652"), None);
        assert_eq!(source("0.0.0.0:7652"), None);
    }

    #[test]
    fn http_can_be_off() {
        let config = ServerConfig::new(Layer { http_listen: Some("off".into()), ..minimal() });
        let config = config.unwrap();
        assert_eq!((config.http_listen, config.advertise_http), (None, String::new()));
    }

    #[test]
    fn other_machines_are_not_served_unless_that_is_meant() {
        for host in ["0.0.0.0", "10.0.0.1", "node-1.example", "[::]"] {
            let layer = Layer { listen: Some(format!("{host}:7650")), ..minimal() };
            assert!(wrong(layer.clone()).contains("--insecure"), "{host}");
            let layer = Layer {
                insecure: Some(true),
                advertise: Some("node-1.example:7650".into()),
                advertise_peer: Some("node-1.example:7652".into()),
                advertise_http: Some("node-1.example:7651".into()),
                ..layer
            };
            assert!(ServerConfig::new(layer).is_ok(), "{host}");
        }
        for host in ["localhost", "127.0.0.1", "127.3.2.1", "[::1]"] {
            let layer = Layer { listen: Some(format!("{host}:7650")), ..minimal() };
            assert!(ServerConfig::new(layer).is_ok(), "{host}");
        }
    }

    #[test]
    fn all_addresses_of_a_machine_cannot_be_advertised() {
        let layer =
            Layer { listen: Some("0.0.0.0:7650".into()), insecure: Some(true), ..minimal() };
        assert!(wrong(layer).starts_with("--advertise is missing"));
    }

    #[test]
    fn what_is_missing_is_named_in_all_its_forms() {
        let text = wrong(Layer { id: None, ..minimal() });
        assert!(text.contains("--id") && text.contains("DURAMEN_ID"), "{text}");
        assert!(wrong(Layer { id: Some(0), ..minimal() }).contains("--id"));
        assert!(wrong(Layer { dir: None, ..minimal() }).contains("--dir"));
        assert!(wrong(Layer { seed: Some(vec![]), ..minimal() }).contains("--seed"));
        let twice = vec!["a:1".into(), "b:1".into(), "a:1".into()];
        assert!(wrong(Layer { seed: Some(twice), ..minimal() }).contains("a:1 twice"));
    }

    #[test]
    fn an_assignor_is_named_or_the_uniform_one() {
        let with =
            |name: Option<&str>| Layer { group_assignor: name.map(str::to_owned), ..minimal() };
        let name = |given| ServerConfig::new(with(given)).unwrap().group_assignor.name();
        assert_eq!(
            [None, Some("uniform"), Some("range")].map(name),
            ["uniform", "uniform", "range"]
        );
        let text = wrong(with(Some("best")));
        assert!(text.contains("--group-assignor \"best\""), "{text}");
        assert!(text.contains("uniform or range"), "{text}");
    }

    #[test]
    fn a_key_that_means_nothing_is_found() {
        let error = Layer::from_toml("lisen = '127.0.0.1:1'").unwrap_err().to_string();
        assert!(error.contains("lisen") && error.contains("listen"), "{error}");
    }

    #[test]
    fn a_variable_that_is_no_value_is_named() {
        let with = |name: &'static str, value: &'static str| {
            Layer::from_environment(move |asked| (asked == name).then(|| value.to_owned()))
        };
        let text = with("DURAMEN_ID", "one").unwrap_err().to_string();
        assert!(text.starts_with("DURAMEN_ID"), "{text}");
        assert!(with("DURAMEN_INSECURE", "maybe").is_err());
        assert!(with("DURAMEN_LOG_FORMAT", "xml").is_err());
        assert_eq!(with("DURAMEN_ID", "").unwrap().id, None, "empty is not set");
        let seeds = with("DURAMEN_SEED", "a:1, b:2").unwrap().seed;
        assert_eq!(seeds, Some(vec!["a:1".into(), "b:2".into()]));
    }
}
