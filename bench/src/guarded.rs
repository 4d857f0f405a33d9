//! What authentication costs: the same load on two servers alike, of which one takes tokens and the other
//! lets every caller in.

use std::path::Path;

use http::HeaderValue;

use crate::{
    Failure,
    pick::Picker,
    program::Program,
    run::Run,
    scenario::{Scenario, Shape},
    stage::{self, Stage},
};

const OPEN: &str = "reservd_bench_open";
const GUARDED: &str = "reservd_bench_guarded";
const ISSUER: &str = "reservd-bench";

/// A token for everything, good for longer than any benchmark, and the program with the settings to take it.
pub async fn with_tokens(program: &Program, keys: &Path) -> Result<(HeaderValue, Program), Failure> {
    let folder = keys.to_str().ok_or("the folder of the keys has no plain name")?;
    let who = ["--admin", "bench", "--role", "service", "--issuer", ISSUER, "--ttl", "12h"];
    let token = program.output(&[&["token", "--keys", folder], &who[..]].concat()).await?;
    // Not marked as sensitive: as with most gRPC clients, a connection's table of headers then knows it
    // after the first call.
    let bearer = HeaderValue::try_from(format!("Bearer {}", token.trim()))?;
    let settings = [format!("auth.jwks={folder}/jwks.json"), format!("auth.issuer={ISSUER}")];
    let settings: Vec<_> = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
    Ok((bearer, program.with(&settings)))
}

impl Run<'_> {
    /// Measures with and without, alternating.
    pub(super) async fn authentication(&mut self, keys: &Path) -> Result<(), Failure> {
        if !self.plan.authentication {
            return Ok(());
        }
        let (bearer, program) = with_tokens(self.server, keys).await?;
        let database = stage::database(self.embedded, OPEN, false).await?;
        let mut open = Stage::start(self.embedded, database, self.server).await?;
        let database = stage::database(self.embedded, GUARDED, false).await?;
        let mut guarded = Stage::start(self.embedded, database, &program).await?.with_bearer(bearer);
        for stage in [&mut open, &mut guarded] {
            stage.create_events(1, false).await?;
            stage.note_versions().await?;
        }
        for round in 1..=self.plan.rounds {
            for step in self.plan.authentication_round(round) {
                let stage = if step.scenario == Scenario::Guarded { &mut guarded } else { &mut open };
                self.measure(stage, step, round, Picker::new(Shape::Hot, 1)).await?;
            }
        }
        self.close(open, vec![0, 1]).await?;
        self.close(guarded, vec![0, 1]).await
    }
}
