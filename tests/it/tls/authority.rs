//! Certificates, good and bad, made on the spot.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, date_time_ymd,
};
use torsade::protocols::tls::rustls::pki_types::CertificateRevocationListDer;
use torsade::protocols::tls::{self, ClientConfig, Identity, Roots, ServerConfig, ServerName};

/// Signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
pub struct Signed {
    pub chain: String,
    pub key: String,
}

impl Signed {
    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.chain, &self.key).expect("rcgen writes PEM")
    }
}

impl Authority {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Each with a name of its own: a stranger of the same name would be an impostor.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("Authority {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        Self { issuer }
    }

    /// A certificate that vouches for itself, and for others if it is asked to.
    pub fn sign_itself(name: &str) -> Signed {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("it signs itself");
        Signed {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn roots(&self) -> Roots {
        Roots::from_pem(self.pem()).expect("rcgen writes PEM")
    }

    pub fn sign(&self, name: &str) -> Signed {
        self.sign_with(name, |_| {})
    }

    pub fn sign_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        Signed {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// One whose serial number is this, so that it can be revoked.
    pub fn sign_numbered(&self, name: &str, number: u64) -> Signed {
        self.sign_with(name, |params| params.serial_number = Some(number.into()))
    }

    /// A list that has one entry.
    pub fn revoke(&self, number: u64) -> CertificateRevocationListDer<'static> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(3001, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: number.into(),
                revocation_time: date_time_ymd(2001, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("it is signed");
        list.into()
    }

    pub fn sign_expired(&self, name: &str) -> Signed {
        self.sign_with(name, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    pub fn sign_for_the_future(&self, name: &str) -> Signed {
        self.sign_with(name, |params| {
            params.not_before = date_time_ymd(3001, 1, 1);
            params.not_after = date_time_ymd(3002, 1, 1);
        })
    }

    pub fn server(&self) -> ServerConfig {
        let identity = self.sign("localhost").identity();
        tls::server_config(identity).build().expect("it is good")
    }

    pub fn client(&self) -> ClientConfig {
        let builder = tls::client_config().roots(self.roots());
        builder.build().expect("it is good")
    }
}

pub fn localhost() -> ServerName<'static> {
    name("localhost")
}

pub fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("it is a name")
}
