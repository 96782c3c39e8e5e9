//! Certificates, keys and roots: what one shows, and whom one trusts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::error::ConfigError;

/// Who one is: a certificate, those that vouch for it, and the private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// An identity from its parts in DER form; its own certificate first.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// An identity from texts in PEM form. They may be the same text.
    ///
    /// # Errors
    ///
    /// There is no certificate, or no key.
    pub fn from_pem(
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, ConfigError> {
        Self::parse(certificates.as_ref(), "the text", key.as_ref(), "the text")
    }

    /// An identity from files in PEM form. They may be the same file.
    ///
    /// Reads them at once, which blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or there is no certificate, or no key.
    pub fn from_pem_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, ConfigError> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        Self::parse(
            &read(certificates)?,
            &certificates.to_string_lossy(),
            &read(key)?,
            &key.to_string_lossy(),
        )
    }

    fn parse(
        certificates: &[u8],
        certificates_from: &str,
        key: &[u8],
        key_from: &str,
    ) -> Result<Self, ConfigError> {
        let chain = parse_certificates(certificates, certificates_from)?;
        match PrivateKeyDer::from_pem_slice(key) {
            Ok(key) => Ok(Self { chain, key }),
            Err(_) => Err(ConfigError::NoKey {
                place: key_from.to_owned(),
            }),
        }
    }

    pub(super) fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }

    fn certify(self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, ConfigError> {
        let certified = CertifiedKey::from_der(self.chain, self.key, provider)?;
        Ok(Arc::new(certified))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

/// Whom one trusts.
#[derive(Clone, Debug)]
pub struct Roots {
    store: RootCertStore,
}

impl Roots {
    /// Those that the operating system trusts; also what `SSL_CERT_FILE` and `SSL_CERT_DIR` say.
    ///
    /// Reads them at once, which takes some milliseconds: make one configuration and share it.
    ///
    /// # Errors
    ///
    /// The system has none, or they cannot be read.
    pub fn platform() -> Result<Self, ConfigError> {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        // A system has some that nobody can parse; the others are as good as before.
        let (added, _) = store.add_parsable_certificates(found.certs);
        if added == 0 {
            let reasons = found.errors.iter().map(ToString::to_string);
            let mut reason: Vec<String> = reasons.collect();
            reason.push("the system has no certificate that can be used".into());
            return Err(ConfigError::NoRoots {
                reason: reason.join("; "),
            });
        }
        Ok(Self { store })
    }

    /// These, in DER form, and nobody else.
    ///
    /// # Errors
    ///
    /// There is none, or one is not a certificate.
    pub fn of(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, ConfigError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate)?;
        }
        Self::unless_empty(store, "none was given")
    }

    /// Those in this text in PEM form, and nobody else.
    ///
    /// # Errors
    ///
    /// There is none, or one is not a certificate.
    pub fn from_pem(text: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Self::of(parse_certificates(text.as_ref(), "the text")?)
    }

    /// Those in this file in PEM form, and nobody else. Reads it at once, which blocks.
    ///
    /// # Errors
    ///
    /// The file cannot be read, there is none in it, or one is not a certificate.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        Self::of(parse_certificates(&read(path)?, &path.to_string_lossy())?)
    }

    /// Those in the files of this directory that end with `.pem`, and nobody else. What
    /// cannot be read, or is no certificate, is passed over.
    ///
    /// Reads them at once, which blocks.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or there is no certificate in it.
    pub fn from_directory(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let entries = fs::read_dir(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        // Same input, same order.
        files.sort();
        let mut store = RootCertStore::empty();
        for file in files {
            if file.extension().is_some_and(|extension| extension == "pem")
                && let Ok(text) = fs::read(&file)
            {
                store.add_parsable_certificates(
                    CertificateDer::pem_slice_iter(&text).filter_map(Result::ok),
                );
            }
        }
        Self::unless_empty(store, &format!("there is none in {}", path.display()))
    }

    /// These as well.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.store.extend(others.store.roots);
        self
    }

    fn unless_empty(store: RootCertStore, reason: &str) -> Result<Self, ConfigError> {
        if store.is_empty() {
            return Err(ConfigError::NoRoots {
                reason: reason.to_owned(),
            });
        }
        Ok(Self { store })
    }

    pub(super) fn into_store(self) -> Arc<RootCertStore> {
        Arc::new(self.store)
    }
}

/// The certificates that a server shows, to be replaced while it runs. A cheap clone, for
/// every thread.
///
/// Handshakes that begin after a change see the new one; connections that stand go on.
///
/// # Examples
///
/// ```no_run
/// use torsade_protocols::tls::{self, Identity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (chain, key) = ("fullchain.pem", "key.pem");
/// let config = tls::server_config(Identity::from_pem_files(chain, key)?).build()?;
/// let certificates = config.certificates().expect("the configuration is ours").clone();
/// // When they have been renewed, for instance on SIGHUP:
/// certificates.reload(Identity::from_pem_files(chain, key)?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Certificates {
    shown: Arc<Shown>,
}

struct Shown {
    provider: Arc<CryptoProvider>,
    by_name: RwLock<ByName>,
}

struct ByName {
    /// For all other names, and for clients that say none.
    default: Arc<CertifiedKey>,
    /// Names in lower case; `*.` stands for one label.
    named: BTreeMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    pub(super) fn new(
        default: Identity,
        named: Vec<(String, Identity)>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, ConfigError> {
        let default = default.certify(provider)?;
        let mut by_name = BTreeMap::new();
        for (name, identity) in named {
            by_name.insert(name.to_ascii_lowercase(), identity.certify(provider)?);
        }
        let by_name = RwLock::new(ByName {
            default,
            named: by_name,
        });
        let shown = Shown {
            provider: Arc::clone(provider),
            by_name,
        };
        Ok(Self {
            shown: Arc::new(shown),
        })
    }

    /// Shows this identity from now on, where there is none for the name that a client asks for.
    ///
    /// # Errors
    ///
    /// The key does not fit the certificate. Then nothing has changed.
    pub fn reload(&self, identity: Identity) -> Result<(), ConfigError> {
        let certified = identity.certify(&self.shown.provider)?;
        self.shown.write().default = certified;
        Ok(())
    }

    /// Shows this identity from now on to clients that ask for `name`, for which there is one
    /// already.
    ///
    /// # Errors
    ///
    /// There is none for this name, or the key does not fit the certificate. Then nothing has
    /// changed.
    pub fn reload_for(&self, name: &str, identity: Identity) -> Result<(), ConfigError> {
        let certified = identity.certify(&self.shown.provider)?;
        match self.shown.write().named.get_mut(&name.to_ascii_lowercase()) {
            Some(place) => *place = certified,
            None => {
                return Err(ConfigError::UnknownName {
                    name: name.to_owned(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>
    }
}

impl Shown {
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, ByName> {
        // A panic between two assignments cannot leave it half written.
        self.by_name.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let any = name
                .split_once('.')
                .map(|(_, parent)| format!("*.{parent}"));
            let named = &by_name.named;
            named.get(&name).or_else(|| named.get(&any?))
        });
        Some(Arc::clone(named.unwrap_or(&by_name.default)))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })
}

fn parse_certificates(
    text: &[u8],
    from: &str,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ConfigError::NoCertificate {
            place: from.to_owned(),
        }),
    }
}
