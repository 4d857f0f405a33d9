//! Captures everything that a server prints, to assert that no secret is in it.

use tonic::Status;

/// The captured texts and their places.
#[derive(Default)]
pub struct LogCapture(Vec<(&'static str, String)>);

impl LogCapture {
    pub fn add(&mut self, place: &'static str, text: impl ToString) {
        self.0.push((place, text.to_string()));
    }

    /// Adds the error of a result, if it is one.
    pub fn add_result<T>(&mut self, result: Result<T, Status>) {
        if let Err(status) = result {
            self.add("an error", format!("{status:?} {}", String::from_utf8_lossy(status.details())));
        }
    }

    /// Adds the error of a result, which must be one.
    pub fn add_refusal<T>(&mut self, result: Result<T, Status>) {
        self.add_result(Err::<(), _>(result.map(drop).expect_err("this must be refused")));
    }

    /// Asserts that none of the secrets was printed.
    pub fn assert_without(&self, secrets: &[String]) {
        for (place, text) in &self.0 {
            for secret in secrets {
                assert!(!text.contains(secret.as_str()), "{secret} is in {place}: {text}");
            }
        }
    }
}
