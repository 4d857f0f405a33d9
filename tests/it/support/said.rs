//! Everything that a service said, wherever: what secrets must not be in.

use tonic::Status;

/// Everything that was said somewhere, and where.
#[derive(Default)]
pub struct Said(Vec<(&'static str, String)>);

impl Said {
    pub fn add(&mut self, place: &'static str, text: impl ToString) {
        self.0.push((place, text.to_string()));
    }

    /// What the error says, if it is one.
    pub fn add_answer<T>(&mut self, answer: Result<T, Status>) {
        if let Err(status) = answer {
            self.add("an error", format!("{status:?} {}", String::from_utf8_lossy(status.details())));
        }
    }

    /// What the error says, which it must be.
    pub fn add_refusal<T>(&mut self, answer: Result<T, Status>) {
        self.add_answer(Err::<(), _>(answer.map(drop).expect_err("this must be refused")));
    }

    /// Makes sure that none of these was said anywhere.
    pub fn assert_without(&self, secrets: &[String]) {
        for (place, text) in &self.0 {
            for secret in secrets {
                assert!(!text.contains(secret.as_str()), "{secret} is in {place}: {text}");
            }
        }
    }
}
