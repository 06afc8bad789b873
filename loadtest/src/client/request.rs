//! Request bytes, written once before the run and sent as they are.

use super::response::BodyRule;

/// The methods a load test may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    pub(crate) fn body_rule(self) -> BodyRule {
        match self {
            Method::Head => BodyRule::HeadOnly,
            Method::Get | Method::Post | Method::Put | Method::Patch | Method::Delete => BodyRule::Expected,
        }
    }

    /// Servers want a Content-Length on these even when the body is empty.
    fn carries_body(self) -> bool {
        match self {
            Method::Post | Method::Put | Method::Patch => true,
            Method::Get | Method::Head | Method::Delete => false,
        }
    }
}

/// What to ask for; [`Request::to_bytes`] makes it sendable.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Why a request cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("path {0:?} must begin with / and hold no blanks or control characters")]
    Path(String),
    #[error("header {0:?} is not `Name: value`")]
    Header(String),
    #[error("header {0} is written by the load tester itself")]
    ReservedHeader(String),
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn post_json(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self::json(Method::Post, path, body)
    }

    pub(crate) fn json(method: Method, path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self {
            method,
            path: path.into(),
            headers: vec![("Content-Type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }

    pub(crate) fn with_bearer(mut self, token: &str) -> Self {
        let value = format!("Bearer {token}");
        self.headers.push(("Authorization".into(), value));
        self
    }

    /// Adds `Name: value` as typed by a user.
    pub(crate) fn add_header_line(&mut self, line: &str) -> Result<(), RequestError> {
        let malformed = || RequestError::Header(line.to_owned());
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || !name.bytes().all(is_token_byte) || value.contains(char::is_control) {
            return Err(malformed());
        }
        let reserved = ["host", "content-length", "transfer-encoding", "connection"];
        if reserved.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(RequestError::ReservedHeader(name.to_owned()));
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// The bytes to put on the wire; `authority` is the Host header.
    pub(crate) fn to_bytes(&self, authority: &str) -> Result<Box<[u8]>, RequestError> {
        let is_plain = self.path.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.path.starts_with('/') || !is_plain {
            return Err(RequestError::Path(self.path.clone()));
        }
        let method = self.method.as_str();
        let mut text = format!("{method} {} HTTP/1.1\r\nHost: {authority}\r\n", self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method.carries_body() || !self.body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        Ok(bytes.into_boxed_slice())
    }
}

/// `tchar` of RFC 9110.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_hold_host_headers_length_and_body() {
        let mut request = Request::post_json("/jobs?x=1", &serde_json::json!({"kind": "a"}));
        request.add_header_line("X-Trace : on").expect("a legal header");
        let bytes = request.to_bytes("127.0.0.1:8000").expect("a legal request");
        let expected = "POST /jobs?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\
            Content-Type: application/json\r\nX-Trace: on\r\nContent-Length: 12\r\n\r\n{\"kind\":\"a\"}";
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[test]
    fn nothing_can_be_smuggled_into_the_head() {
        let mut request = Request::get("/a b");
        assert!(matches!(request.to_bytes("h"), Err(RequestError::Path(_))));
        for line in ["no colon", ": v", "A\r\nB: v", "A: v\r\nB: w"] {
            let refused = request.add_header_line(line);
            assert!(matches!(refused, Err(RequestError::Header(_))), "{line:?}");
        }
        let refused = request.add_header_line("content-length: 4");
        assert!(matches!(refused, Err(RequestError::ReservedHeader(_))));
    }
}
