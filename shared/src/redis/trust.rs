//! Whom `rediss://` believes: the authorities of `REDIS_CA_FILE` and nobody else, or where it is empty those of the machine. A
//! certificate and the host name in it are checked in either case; there is no way to have them not checked.

use crate::{Error, Result, config::Settings};
use redis::{Client, ConnectionAddr, ConnectionInfo, RedisResult, TlsCertificates};
use std::{fs, io, path::Path, sync::Arc};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// The file's text; `None` is the machine.
    authorities: Option<Arc<Vec<u8>>>,
}

impl Trust {
    pub(super) fn of(settings: &Settings) -> Result<Self> {
        settings.redis_ca_file.as_deref().map_or(Ok(Self::default()), Self::read).map_err(Error::internal)
    }

    /// `Err` says what the setting allows.
    pub(crate) fn read(path: &Path) -> std::result::Result<Self, String> {
        let text = fs::read(path).map_err(|error| format!("a file of certificates in PEM ({error})"))?;
        let certificates: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(Self { authorities: Some(Arc::new(text)) }),
            Ok(_) => Err("a file of certificates in PEM (it holds none)".to_owned()),
            Err(error) => Err(format!("a file of certificates in PEM ({error})")),
        }
    }

    /// The same server, believed by these authorities. One without TLS stays as it is.
    pub(super) fn apply(&self, info: ConnectionInfo) -> RedisResult<ConnectionInfo> {
        let Some(authorities) = &self.authorities else { return Ok(info) };
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Ok(info);
        }
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(authorities.to_vec()) };
        Ok(Client::build_with_tls(info, certificates)?.get_connection_info().clone())
    }

    /// For the connection that is not the crate's.
    pub(super) fn config(&self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(authorities) => {
                for certificate in CertificateDer::pem_slice_iter(authorities) {
                    roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
                }
            }
            None => {
                // What cannot be read of the machine's is somebody else's authority; those that can are enough or the server is refused.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }
}
