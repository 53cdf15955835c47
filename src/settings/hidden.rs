//! Addresses that hold a password: read, compared, never shown.

/// A type for addresses that begin with one of `$schemes`; `$form` is what messages say they look like.
macro_rules! hidden_address {
    ($name:ident, $schemes:expr, $form:expr) => {
        /// An address with a password in it; never shown.
        #[derive(Clone, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(secrecy::SecretString);

        impl $name {
            /// The form of an address, for messages.
            pub(super) const FORM: &'static str = $form;

            /// The address itself.
            pub fn secret(&self) -> &secrecy::SecretString {
                &self.0
            }

            /// Whether `raw` may be one; whoever connects reads it closely.
            pub(super) fn fits(raw: &str) -> bool {
                $schemes.iter().any(|scheme: &&str| raw.starts_with(scheme))
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(raw: String) -> Result<Self, Self::Error> {
                if Self::fits(&raw) { Ok(Self(raw.into())) } else { Err(Self::FORM) }
            }
        }

        impl From<secrecy::SecretString> for $name {
            fn from(url: secrecy::SecretString) -> Self {
                Self(url)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str("…")
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                use secrecy::ExposeSecret as _;
                self.0.expose_secret() == other.0.expose_secret()
            }
        }
    };
}

pub(super) use hidden_address;
