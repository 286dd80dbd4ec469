//! A fake Absorb portal, a fake BambooHR and a fake chat on loopback: for `learnsync sandbox`, `learnsync demo`, tests and integrators.
//!
//! They speak real HTTP and hold a small seeded world in memory: learners and courses on one side, the employees behind them on the
//! other, and a space that reads what is posted; portal and HR have switchable faults. What is known of the real systems and what is a guess stands next to the code; a guess can be switched the other way.

mod chat;
mod faults;
mod filter;
mod hr;
mod names;
mod population;
mod portal;
mod recorder;
mod redact;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::Clock;

pub use chat::{ChatHandle, ChatMessage};
pub use faults::{Area, Gate, HrArea, HrFault, HrFaults, Pause, PortalFault, PortalFaults, Times, Wait};
pub use hr::{HrHandle, HrRow};
pub use portal::{ExpectedRow, Happened, HookBody, PortalHandle, QUIRKS, Quirk, RateLimiter, Year};

use population::{Counts, Population};
use server::Server;

/// What the sandbox holds at the start, and where it listens.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// The same seed makes the same people, courses, keys and passwords.
    pub seed: u64,
    /// How many learners the portal has.
    pub learners: usize,
    /// How many courses the portal has; each has a training type of the same name in HR.
    pub courses: usize,
    /// How many facts exist before the start: completions of the last two years, some with a certificate.
    pub history: usize,
    /// How many enrolments exist before the start, beside `history`: made all at once, for benchmarks.
    pub enrollments: usize,
    /// How many of the learners HR does not know.
    pub unknown_learners: usize,
    /// How many of the learners are in HR twice.
    pub ambiguous_learners: usize,
    /// Where the portal listens; port 0 takes a free one.
    pub portal_address: SocketAddr,
    /// Where HR listens; port 0 takes a free one.
    pub hr_address: SocketAddr,
    /// Where the chat listens; port 0 takes a free one.
    pub chat_address: SocketAddr,
    /// The portal's rate limit in calls per second; `None` for no limit. Absorb's is 200.
    pub rate_per_second: Option<u32>,
    /// How many calls the portal takes at once before the rate counts. Absorb's is 100.
    pub rate_burst: u32,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            seed: 1,
            learners: 200,
            courses: 12,
            history: 0,
            enrollments: 0,
            unknown_learners: 0,
            ambiguous_learners: 0,
            portal_address: loopback,
            hr_address: loopback,
            chat_address: loopback,
            rate_per_second: Some(200),
            rate_burst: 100,
        }
    }
}

/// The fakes, running.
pub struct Sandbox {
    /// The fake Absorb portal.
    pub portal: PortalHandle,
    /// The fake BambooHR.
    pub hr: HrHandle,
    /// The fake chat.
    pub chat: ChatHandle,
    servers: [Server; 3],
}

impl Sandbox {
    /// Starts the fakes. `entropy` makes what happens later (tokens, ids, dialects, lost answers); the world comes from the seed.
    ///
    /// # Errors
    /// An address cannot be bound; the message names it.
    pub async fn start(
        options: SandboxOptions,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> std::io::Result<Self> {
        let (portal_listener, portal_address) = Server::listen(options.portal_address).await?;
        let (hr_listener, hr_address) = Server::listen(options.hr_address).await?;
        let (chat_listener, chat_address) = Server::listen(options.chat_address).await?;
        let chance = Generator::seeded(options.seed);
        let counts = Counts {
            courses: options.courses,
            learners: options.learners,
            unknown: options.unknown_learners,
            ambiguous: options.ambiguous_learners,
        };
        let world = Population::make(&counts, clock.now(), &chance);
        let courses: Vec<String> = world.courses.iter().map(|course| course.name.clone()).collect();
        let hr =
            HrHandle::open(world.employees, &courses, &chance, (hr_address, Arc::clone(&clock), Arc::clone(&entropy)));
        let portal = PortalHandle::open(
            (world.learners, world.courses),
            &options,
            &chance,
            (portal_address, Arc::clone(&clock), entropy),
            hr.clone(),
        );
        // Last, so that the worlds of seeds that tests know stay as they are.
        let chat = ChatHandle::open(&chance, chat_address, clock);
        let servers = [
            Server::start(portal_listener, portal.service()),
            Server::start(hr_listener, hr.service()),
            Server::start(chat_listener, chat.service()),
        ];
        Ok(Self { portal, hr, chat, servers })
    }

    /// Closes all ports and connections.
    pub async fn stop(self) {
        for server in self.servers {
            server.stop().await;
        }
    }
}

/// Records the webhooks of a real portal, until it is dropped.
pub struct Recording {
    /// Where the portal must send them, behind a web server that takes https from outside.
    pub address: SocketAddr,
    _server: Server,
}

impl Recording {
    /// Listens on an address, and keeps what comes in a folder that is there.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(address: SocketAddr, folder: &std::path::Path, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let (listener, address) = Server::listen(address).await?;
        let recorder = recorder::Recorder { folder: folder.to_owned(), clock, redactor: std::sync::Mutex::default() };
        Ok(Self { address, _server: Server::start(listener, Arc::new(recorder)) })
    }
}
