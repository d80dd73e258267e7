//! How a client command reaches the cluster.

use std::time::Duration;

use clap::Args;
use duramen_client::{Client, ClientOptions};

use crate::context::Context;
use crate::error::CliError;
use crate::limits::DEFAULT_SERVER;

/// Options of every command that talks to a cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// Some nodes of the cluster; the others are found
    #[arg(long, env = "DURAMEN_SERVERS", value_delimiter = ',', value_name = "HOST:PORT")]
    #[arg(default_value = DEFAULT_SERVER)]
    pub(crate) servers: Vec<String>,
    /// How long a call may take, retries included
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    pub(crate) timeout: Duration,
}

impl ClientArgs {
    /// Connects.
    pub(crate) async fn connect(&self, context: &Context) -> Result<Client, CliError> {
        connect(context, &self.servers, self.timeout).await
    }
}

/// Connects to a cluster through some of its nodes.
pub(crate) async fn connect(
    context: &Context,
    servers: &[String],
    timeout: Duration,
) -> Result<Client, CliError> {
    if let Some(server) = servers.iter().find(|server| !is_address(server)) {
        return Err(CliError::Usage(format!(
            "{server:?} is no address: give --servers HOST:PORT, such as {DEFAULT_SERVER}"
        )));
    }
    let options = ClientOptions {
        seeds: servers.to_vec(),
        client_id: "duramen-cli".into(),
        request_timeout: timeout,
    };
    Ok(Client::with_env(context.env.clone(), options).await?)
}

/// Whether a text has the form `host:port`.
pub(crate) fn is_address(text: &str) -> bool {
    split_address(text).is_some()
}

/// The host and port of `host:port`; an IPv6 host stands in brackets and keeps them.
pub(crate) fn split_address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || is_bare_v6 || host.contains(char::is_whitespace) {
        return None;
    }
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(split_address("a.example:7650"), Some(("a.example", 7650)));
        assert_eq!(split_address("[::1]:7650"), Some(("[::1]", 7650)));
        for wrong in ["", "a", ":1", "a:", "a:b", "a:70000", "::1:5", "a b:1"] {
            assert_eq!(split_address(wrong), None, "{wrong}");
        }
    }
}
