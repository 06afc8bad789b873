//! `REDIS_URL`: one server, a master that Sentinel names, or the masters of a cluster. Valkey's spellings mean the same.
//!
//! Lists of hosts are no URLs by the book; each host is handed to the client's own parser in a URL of its own.

use super::trust::Trust;
use redis::{Client, ConnectionAddr, ConnectionInfo, RedisResult};
use std::{fmt, sync::Arc};

const SENTINEL_PORT: u16 = 26_379;
const CLUSTER_PORT: u16 = 6_379;

/// What the setting accepts, for messages about one that it does not.
pub(crate) const ALLOWED: &str = "redis://[user:password@]host[:port][/db], rediss:// for TLS, redis+unix:///path, \
    redis+sentinel://[user:password@]host[:port][,host[:port]…]/master-name[/db] or redis+cluster://[user:password@]host[:port][,host[:port]…]";

/// What `REDIS_URL` names. Its secrets are never shown.
pub(crate) enum Address {
    Server(Box<ConnectionInfo>),
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, entry: Entry },
    Cluster { seeds: Vec<Node>, entry: Entry },
}

/// A server by host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl Node {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// `host:port`; a host that is left out is that of `told_by`.
    pub(super) fn parse(text: &str, told_by: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self { host: if host.is_empty() { Arc::clone(&told_by.host) } else { host.into() }, port: port.parse().ok()? })
    }

    fn of(info: &ConnectionInfo) -> Option<Self> {
        // No list holds a path.
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = info.addr() else { return None };
        Some(Self::new(host, *port))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// How each of several servers is entered: TLS or not, user, password and database, wherever it stands.
#[derive(Clone)]
pub(crate) struct Entry(ConnectionInfo);

impl Entry {
    pub(super) fn client(&self, node: &Node) -> RedisResult<Client> {
        let (host, port) = (node.host.to_string(), node.port);
        let addr = if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = self.0.addr() {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        Client::open(self.0.clone().set_addr(addr))
    }
}

/// The parts of a URL with several hosts.
struct Parts<'a> {
    /// `redis` or `rediss`.
    scheme: &'static str,
    /// With its `@`.
    user: &'a str,
    hosts: Vec<&'a str>,
    path: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
    fragment: Option<&'a str>,
}

impl Address {
    /// `Err` says what is wrong, without any of the URL's secrets.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or(ALLOWED)?;
        let plain = |is_tls: bool| if is_tls { "rediss" } else { "redis" };
        match scheme {
            "redis" | "rediss" | "redis+unix" | "unix" | "valkey" | "valkeys" | "valkey+unix" => {
                let info: ConnectionInfo = url.parse().map_err(|error| format!("{ALLOWED} ({error})"))?;
                if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                    return Err("without #insecure: a server of your own authority is believed by REDIS_CA_FILE".to_owned());
                }
                Ok(Self::Server(Box::new(info)))
            }
            "redis+sentinel" | "redis-sentinel" | "valkey+sentinel" => Self::sentinel(Parts::of(plain(false), rest)?),
            "rediss+sentinel" | "rediss-sentinel" | "valkeys+sentinel" => Self::sentinel(Parts::of(plain(true), rest)?),
            "redis+cluster" | "redis-cluster" | "valkey+cluster" => Self::cluster(Parts::of(plain(false), rest)?),
            "rediss+cluster" | "rediss-cluster" | "valkeys+cluster" => Self::cluster(Parts::of(plain(true), rest)?),
            _ => Err(ALLOWED.to_owned()),
        }
    }

    /// The same, each server of it believed by `trust` alone.
    pub(super) fn trusting(self, trust: &Trust) -> RedisResult<Self> {
        Ok(match self {
            Self::Server(info) => Self::Server(Box::new(trust.apply(*info)?)),
            Self::Sentinel { sentinels, master, entry } => {
                let sentinels = sentinels.into_iter().map(|info| trust.apply(info)).collect::<RedisResult<_>>()?;
                Self::Sentinel { sentinels, master, entry: Entry(trust.apply(entry.0)?) }
            }
            Self::Cluster { seeds, entry } => Self::Cluster { seeds, entry: Entry(trust.apply(entry.0)?) },
        })
    }

    fn sentinel(mut parts: Parts<'_>) -> Result<Self, String> {
        let named = parts.take(&["sentinel_master_name", "master_name", "service_name"]).or(parts.fragment.take());
        let user = parts.take(&["sentinel_username", "sentinel_user"]).unwrap_or_default();
        let password = parts.take(&["sentinel_password"]);
        parts.nothing_left()?;
        let (master, db) = match (named, &parts.path[..]) {
            (Some(name), []) | (None, &[name]) => (name, "0"),
            (Some(name), &[db]) | (None, &[name, db]) => (name, db),
            (None, []) => return Err("the master's name after the hosts: redis+sentinel://host:26379/master-name".to_owned()),
            (Some(_) | None, _) => return Err("redis+sentinel://host:26379[,…]/master-name[/db]: less after the hosts".to_owned()),
        };
        let login = password.map_or_else(String::new, |password| format!("{user}:{password}@"));
        let sentinels = parts.hosts.iter().map(|host| parts.info(&login, host, SENTINEL_PORT, "0")).collect::<Result<_, _>>()?;
        let entry = Entry(parts.info(parts.user, parts.hosts[0], SENTINEL_PORT, db)?);
        Ok(Self::Sentinel { sentinels, master: master.to_owned(), entry })
    }

    fn cluster(parts: Parts<'_>) -> Result<Self, String> {
        parts.nothing_left()?;
        if parts.fragment.is_some() || !matches!(parts.path[..], [] | ["0"]) {
            return Err("nothing after the hosts of a cluster: it has no databases but 0".to_owned());
        }
        let infos: Vec<_> = parts.hosts.iter().map(|host| parts.info(parts.user, host, CLUSTER_PORT, "0")).collect::<Result<_, _>>()?;
        Ok(Self::Cluster { seeds: infos.iter().filter_map(Node::of).collect(), entry: Entry(infos[0].clone()) })
    }
}

impl<'a> Parts<'a> {
    fn of(scheme: &'static str, rest: &'a str) -> Result<Self, String> {
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let user_ends = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, hosts) = authority.split_at(user_ends);
        let mut query: Vec<(&str, &str)> =
            query.split('&').filter(|pair| !pair.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))).collect();
        let more_hosts = query.extract_if(.., |(name, _)| *name == "addr").map(|(_, host)| host);
        let hosts: Vec<&str> = hosts.split(',').map(str::trim).chain(more_hosts).collect();
        if hosts.iter().any(|host| host.is_empty()) {
            return Err("host[:port][,host[:port]…] with no gaps".to_owned());
        }
        let path = path.split('/').filter(|part| !part.is_empty()).collect();
        Ok(Self { scheme, user, hosts, path, query, fragment })
    }

    fn take(&mut self, names: &[&str]) -> Option<&'a str> {
        let at = self.query.iter().position(|(name, _)| names.contains(name))?;
        Some(self.query.remove(at).1)
    }

    fn nothing_left(&self) -> Result<(), String> {
        match self.query.first() {
            Some((name, _)) => Err(format!("no parameter `{name}`")),
            None => Ok(()),
        }
    }

    /// `host` as a server of its own.
    fn info(&self, user: &str, host: &str, default_port: u16, db: &str) -> Result<ConnectionInfo, String> {
        let has_port = host.rsplit_once(']').map_or(host, |(_, after)| after).contains(':');
        let port = if has_port { String::new() } else { format!(":{default_port}") };
        let url = format!("{}://{user}{host}{port}/{db}", self.scheme);
        url.parse().map_err(|error| format!("{host}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn told(url: &str) -> String {
        match Address::parse(url) {
            Ok(Address::Server(info)) => format!("server {}", info.addr()),
            Ok(Address::Sentinel { sentinels, master, entry }) => {
                let hosts: Vec<_> = sentinels.iter().map(|info| login(info) + &info.addr().to_string()).collect();
                format!("{} by {} entered {}{}", master, hosts.join(" "), login(&entry.0), entry.0.redis_settings().db())
            }
            Ok(Address::Cluster { seeds, entry }) => {
                let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
                let is_tls = matches!(entry.0.addr(), ConnectionAddr::TcpTls { .. });
                format!("{}{} tls={is_tls}", login(&entry.0), seeds.join(" "))
            }
            Err(error) => format!("refused: {error}"),
        }
    }

    fn login(info: &ConnectionInfo) -> String {
        let settings = info.redis_settings();
        settings.password().map_or_else(String::new, |password| format!("{}:{password}@", settings.username().unwrap_or_default()))
    }

    #[rstest]
    #[case("redis://h", "server h:6379")]
    #[case("valkey://h:1/2", "server h:1")]
    #[case("redis+unix:///run/redis.sock", "server /run/redis.sock")]
    #[case("redis+sentinel://a,b:7/main", "main by a:26379 b:7 entered 0")]
    #[case("redis+sentinel://u:p%40w@a:1,[::1]/main/3", "main by a:1 ::1:26379 entered u:p@w@3")]
    #[case("redis-sentinel://:pw@a:1?sentinel_password=s#main", "main by :s@a:1 entered :pw@0")]
    #[case("valkey+sentinel://a:1/5?sentinel_master_name=main&addr=b:2", "main by a:1 b:2 entered 5")]
    #[case("redis+cluster://a,b:7000,[::1]:7", "a:6379 b:7000 [::1]:7 tls=false")]
    #[case("rediss+cluster://u:p@a?addr=b", "u:p@a:6379 b:6379 tls=true")]
    #[case("rediss://h", "server h:6379")]
    #[case("rediss+sentinel://a,b:7/main", "main by a:26379 b:7 entered 0")]
    fn an_address_says_what_to_follow(#[case] url: &str, #[case] expected: &str) {
        assert_eq!(told(url), expected);
    }

    #[rstest]
    #[case("")]
    #[case("rediss://h/#insecure")]
    #[case("rediss+cluster://h#insecure")]
    #[case("h:6379")]
    #[case("http://h")]
    #[case("redis://")]
    #[case("redis://h/first")]
    #[case("redis+sentinel://a,b")]
    #[case("redis+sentinel:///main")]
    #[case("redis+sentinel://a,,b/main")]
    #[case("redis+sentinel://a/main/first")]
    #[case("redis+sentinel://a/main/0/1")]
    #[case("redis+sentinel://a:port/main")]
    #[case("redis+sentinel://a/main?sentinel_passwort=x")]
    #[case("redis+cluster://a/1")]
    #[case("redis+cluster://a?x=y")]
    #[case("redis+cluster://")]
    fn a_bad_address_is_refused(#[case] url: &str) {
        assert!(told(url).starts_with("refused: "), "{url} is {}", told(url));
    }

    #[test]
    fn whoever_is_found_is_entered_over_tls_and_believed_by_the_same_authorities() {
        let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/src/redis/an_authority.pem");
        let trust = Trust::read(authority.as_ref()).unwrap();
        for url in ["rediss+sentinel://a/main", "rediss+cluster://a"] {
            let (Address::Sentinel { entry, .. } | Address::Cluster { entry, .. }) = Address::parse(url).unwrap().trusting(&trust).unwrap()
            else {
                panic!("{url} names several servers")
            };
            let client = entry.client(&Node::new("found.example", 7)).unwrap();
            let ConnectionAddr::TcpTls { host, insecure, tls_params, .. } = client.get_connection_info().addr() else {
                panic!("{url} is entered without TLS")
            };
            assert_eq!((host.as_str(), *insecure, tls_params.is_some()), ("found.example", false, true));
        }
    }

    #[test]
    fn a_refusal_shows_no_secret() {
        for url in
            ["redis+sentinel://u:hunter2@a:x/main", "redis+cluster://u:hunter2@a:x", "redis://u:hunter2@h:x", "redis+cluster://a?hunter2"]
        {
            let refusal = told(url);
            assert!(refusal.starts_with("refused: "), "{refusal}");
            assert!(!refusal.contains("u:hunter2"), "{refusal}");
        }
    }

    #[test]
    fn a_node_that_leaves_its_host_out_is_where_the_one_that_told_is() {
        let told_by = Node::new("h", 1);
        assert_eq!(Node::parse(":7", &told_by), Some(Node::new("h", 7)));
        assert_eq!(Node::parse("10.0.0.1:7", &told_by), Some(Node::new("10.0.0.1", 7)));
        assert_eq!(Node::parse("::1:7", &told_by), Some(Node::new("::1", 7)));
        assert_eq!(Node::parse("h", &told_by), None);
    }
}
