//! Which class a request is of, told from its method and path alone: before anything is done for it, it must be known whose share
//! of the places in flight it takes. Made from the list of routes.

use crate::{
    gate::{Access, Gate},
    routes::{self, BASE, Entry},
};
use actix_web::{dev::ServiceRequest, http::Method};
use shared::{Scope, limits::Class};
use std::collections::HashMap;

/// Routes that share what they have in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteClass {
    /// Signing in and what else computes password hashes.
    Login,
    Write,
    Read,
    /// Many things in one body: bulks, broadcasts, points, files.
    Bulk,
    /// What operators alone may ask.
    Operator,
}

impl RouteClass {
    pub const ALL: [Self; 5] = [Self::Login, Self::Write, Self::Read, Self::Bulk, Self::Operator];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Write => "write",
            Self::Read => "read",
            Self::Bulk => "bulk",
            Self::Operator => "operator",
        }
    }

    fn of_gate(gate: Gate, method: &Method) -> Self {
        let is_for_operators = match gate.access {
            Access::Operator(_) => true,
            Access::Scoped(scope) => matches!(scope, Scope::Admin | Scope::QueuesAdmin | Scope::Workers),
            Access::Public | Access::SignedIn | Access::Session | Access::Backend => false,
        };
        match gate.class {
            _ if is_for_operators => Self::Operator,
            Some(Class::Login | Class::LoginAddress) => Self::Login,
            Some(Class::Write | Class::Work) => Self::Write,
            Some(Class::Read) => Self::Read,
            Some(Class::Bulk | Class::Ingest | Class::Upload) => Self::Bulk,
            None => Self::of_unknown(method),
        }
    }

    /// What will be answered with 404 or 405 costs little.
    fn of_unknown(method: &Method) -> Self {
        if method == Method::GET || method == Method::HEAD { Self::Read } else { Self::Write }
    }
}

/// Paths that must answer however busy the process is.
pub(crate) fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/health" | "/api/health" | "/metrics")
}

/// The list of routes, arranged by the first segment of their paths.
#[derive(Debug)]
pub struct RouteClasses {
    versioned: HashMap<&'static str, Vec<Template>>,
    root: HashMap<&'static str, Vec<Template>>,
}

#[derive(Debug)]
struct Template {
    method: Method,
    /// Behind the first; `None` is a parameter.
    segments: Vec<Option<&'static str>>,
    class: RouteClass,
}

impl Default for RouteClasses {
    fn default() -> Self {
        Self { versioned: arranged(routes::versioned()), root: arranged(routes::root()) }
    }
}

fn arranged(entries: Vec<Entry>) -> HashMap<&'static str, Vec<Template>> {
    let mut by_first: HashMap<_, Vec<_>> = HashMap::new();
    for Entry { method, path, gate, .. } in entries {
        let mut segments = path.trim_start_matches('/').split('/');
        let first = segments.next().unwrap_or_default();
        let segments = segments.map(|segment| (!segment.starts_with('{')).then_some(segment)).collect();
        let class = RouteClass::of_gate(gate, &method);
        by_first.entry(first).or_default().push(Template { method, segments, class });
    }
    by_first
}

impl RouteClasses {
    pub fn of(&self, request: &ServiceRequest) -> RouteClass {
        // The path as routes are found by it: `%6e` in it is an n.
        self.class_of(request.method(), request.match_info().as_str())
    }

    fn class_of(&self, method: &Method, path: &str) -> RouteClass {
        let (routes, rest) = match path.strip_prefix(BASE) {
            Some(rest) => (&self.versioned, rest),
            None => (&self.root, path),
        };
        let (first, rest) = rest.trim_start_matches('/').split_once('/').unwrap_or((rest.trim_start_matches('/'), ""));
        let asked = if method == Method::HEAD { &Method::GET } else { method };
        let templates = routes.get(first).map_or(&[][..], Vec::as_slice);
        let found = templates.iter().find(|template| template.method == *asked && template.fits(rest));
        found.map_or_else(|| RouteClass::of_unknown(method), |template| template.class)
    }
}

impl Template {
    fn fits(&self, rest: &str) -> bool {
        if self.segments.is_empty() || rest.is_empty() {
            return self.segments.is_empty() && rest.is_empty();
        }
        let mut given = rest.split('/');
        let fits = self.segments.iter().all(|segment| given.next().is_some_and(|given| segment.is_none_or(|segment| segment == given)));
        fits && given.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("GET", "/api/v1/jobs", RouteClass::Read)]
    #[case("HEAD", "/api/v1/jobs/7", RouteClass::Read)]
    #[case("POST", "/api/v1/jobs", RouteClass::Write)]
    #[case("POST", "/api/v1/jobs/bulk", RouteClass::Bulk)]
    #[case("POST", "/api/v1/jobs/7/cancel", RouteClass::Write)]
    #[case("POST", "/api/v1/points", RouteClass::Bulk)]
    #[case("POST", "/api/v1/files", RouteClass::Bulk)]
    #[case("POST", "/api/v1/leases", RouteClass::Write)]
    #[case("POST", "/api/v1/auth/login", RouteClass::Login)]
    #[case("GET", "/api/v1/auth/me", RouteClass::Read)]
    #[case("POST", "/api/v1/queues/a/pause", RouteClass::Operator)]
    #[case("GET", "/api/v1/queues/a/dead", RouteClass::Operator)]
    #[case("GET", "/api/v1/workers", RouteClass::Operator)]
    #[case("GET", "/api/v1/channels", RouteClass::Operator)]
    #[case("GET", "/api/v1/nope/7", RouteClass::Read)]
    #[case("DELETE", "/nope", RouteClass::Write)]
    #[case("GET", "/", RouteClass::Read)]
    #[case("POST", "/api/publish", RouteClass::Write)]
    fn a_request_is_of_the_class_of_its_route(#[case] method: &str, #[case] path: &str, #[case] class: RouteClass) {
        assert_eq!(RouteClasses::default().class_of(&method.parse().unwrap(), path), class);
    }

    #[test]
    fn a_path_in_other_letters_is_of_the_class_of_the_route_that_answers_it() {
        let request = actix_web::test::TestRequest::post().uri("/api/v1/auth/logi%6e").to_srv_request();
        assert_eq!(RouteClasses::default().of(&request), RouteClass::Login);
    }

    #[test]
    fn every_route_is_found_under_its_path() {
        let classes = RouteClasses::default();
        let versioned = routes::versioned().into_iter().map(|entry| (BASE, entry));
        for (base, entry) in versioned.chain(routes::root().into_iter().map(|entry| ("", entry))) {
            let filled: Vec<_> = entry.path.split('/').map(|segment| if segment.starts_with('{') { "x1" } else { segment }).collect();
            let path = format!("{base}{}", filled.join("/"));
            assert_eq!(classes.class_of(&entry.method, &path), RouteClass::of_gate(entry.gate, &entry.method), "{path}");
        }
    }
}
