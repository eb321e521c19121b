//! The subjects of a run: started, killed, stopped, paused, and watched.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tidelock_campaign::Result;

use crate::{history::History, role::Role};

/// How long a subject may take to end when asked.
const STOP_WITHIN: Duration = Duration::from_secs(45);
const LOOK: Duration = Duration::from_millis(20);
/// How often the subjects' memory is looked at.
const WEIGH: Duration = Duration::from_millis(500);
/// The most resident memory that a subject may have, in bytes.
pub(crate) const MOST_MEMORY: u64 = 256 << 20;
/// What the names of the subjects' sessions begin with, in `pg_stat_activity`.
pub(crate) const SUBJECT: &str = "subject-";
/// Producer numbers for each life of a writer.
const NUMBERS: u32 = 64;

/// All subjects. What one does that nobody asked for is a finding.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    watcher: Option<thread::JoinHandle<()>>,
}

struct Shared {
    program: PathBuf,
    directory: PathBuf,
    run: String,
    settings: Vec<(String, String)>,
    history: Arc<History>,
    members: Mutex<Vec<Member>>,
    findings: Mutex<Vec<String>>,
    memory: Mutex<BTreeMap<String, u64>>,
    lives: AtomicU32,
    over: AtomicBool,
}

struct Member {
    name: String,
    role: Role,
    wanted: Wanted,
    /// Settings of its own, stronger than those of all.
    settings: Vec<(String, String)>,
    /// Another program than that of all.
    program: Option<PathBuf>,
    process: Option<(Child, Option<ChildStdin>)>,
    ended: Option<ExitStatus>,
}

/// What its end would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// A finding.
    Running,
    /// What was asked for, by a fault.
    Dying,
    /// Nothing.
    Whatever,
}

impl Crew {
    pub(crate) fn new(
        program: PathBuf,
        directory: &Path,
        run: &str,
        settings: Vec<(String, String)>,
        history: Arc<History>,
    ) -> Self {
        let shared = Arc::new(Shared {
            program,
            directory: directory.to_owned(),
            run: run.to_owned(),
            settings,
            history,
            members: Mutex::default(),
            findings: Mutex::default(),
            memory: Mutex::default(),
            lives: AtomicU32::new(0),
            over: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let watcher = thread::spawn(move || {
            let mut weighed = Instant::now();
            while !of_thread.over.load(Ordering::Relaxed) {
                of_thread.look();
                if weighed.elapsed() >= WEIGH {
                    of_thread.weigh();
                    weighed = Instant::now();
                }
                thread::sleep(LOOK);
            }
        });
        Self { shared, watcher: Some(watcher) }
    }

    /// A subject that is to run until it is told otherwise; it is started again whenever it ends by itself.
    pub(crate) fn hire(&self, name: &str, role: Role) -> Result<()> {
        self.add(Member::new(name, role, Wanted::Running))
    }

    /// A subject that may end as it likes.
    pub(crate) fn hire_an_outlaw(&self, name: &str, role: Role) -> Result<()> {
        self.add(Member::new(name, role, Wanted::Whatever))
    }

    /// One of another scene, with settings of its own and perhaps another program, which may end as it likes.
    pub(crate) fn hire_aside(
        &self,
        name: &str,
        role: Role,
        settings: Vec<(String, String)>,
        program: Option<PathBuf>,
    ) -> Result<()> {
        self.add(Member { settings, program, ..Member::new(name, role, Wanted::Whatever) })
    }

    fn add(&self, mut member: Member) -> Result<()> {
        let mut members = self.shared.members();
        if members.iter().any(|other| other.name == member.name) {
            return Err(format!("there is a subject {} already", member.name).into());
        }
        self.shared.launch(&mut member, &[])?;
        members.push(member);
        Ok(())
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Member) -> Result<T>) -> Result<T> {
        let mut members = self.shared.members();
        let member = members.iter_mut().find(|member| member.name == name);
        act(member.ok_or_else(|| format!("there is no subject {name}"))?)
    }

    /// kill -9, and it stays dead until [`start`](Self::start).
    pub(crate) fn kill(&self, name: &str) -> Result<()> {
        self.with(name, |member| {
            member.wanted = Wanted::Dying;
            member.end();
            Ok(())
        })
    }

    /// Starts it again, if it does not run.
    pub(crate) fn start(&self, name: &str) -> Result<()> {
        self.start_with(name, &[], Wanted::Running)
    }

    /// kill -9, then starts it as it is by default.
    pub(crate) fn restart(&self, name: &str) -> Result<()> {
        self.kill(name)?;
        self.start(name)
    }

    /// kill -9, then starts it to die by itself at that failpoint.
    pub(crate) fn start_doomed(&self, name: &str, failpoints: &str) -> Result<()> {
        self.kill(name)?;
        self.start_with(name, &[("TIDELOCK_FAILPOINTS", failpoints)], Wanted::Dying)
    }

    /// kill -9, then starts it to wait at that failpoint.
    pub(crate) fn start_to_wait(&self, name: &str, failpoints: &str) -> Result<()> {
        self.kill(name)?;
        self.start_with(name, &[("TIDELOCK_FAILPOINTS", failpoints)], Wanted::Running)
    }

    /// Its end is nobody's fault until it is started again.
    pub(crate) fn may_die(&self, name: &str) -> Result<()> {
        self.with(name, |member| {
            member.wanted = Wanted::Dying;
            Ok(())
        })
    }

    /// Which program it is from its next start on; none: that of all.
    pub(crate) fn become_program(&self, name: &str, program: Option<PathBuf>) -> Result<()> {
        self.with(name, |member| {
            member.program = program;
            Ok(())
        })
    }

    /// The settings of its own from its next start on.
    pub(crate) fn equip(&self, name: &str, settings: Vec<(String, String)>) -> Result<()> {
        self.with(name, |member| {
            member.settings = settings;
            Ok(())
        })
    }

    /// The number of its process.
    pub(crate) fn pid(&self, name: &str) -> Result<u32> {
        let pid = self.with(name, |member| Ok(member.process.as_ref().map(|(child, _)| child.id())))?;
        pid.ok_or_else(|| format!("{name} does not run").into())
    }

    /// The most resident memory that each subject had, in bytes, by name.
    pub(crate) fn memory(&self) -> BTreeMap<String, u64> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start_with(&self, name: &str, env: &[(&str, &str)], wanted: Wanted) -> Result<()> {
        self.with(name, |member| {
            member.reap();
            member.wanted = wanted;
            match member.process {
                Some(_) => Ok(()),
                None => self.shared.launch(member, env),
            }
        })
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.with(name, |member| {
            let pid = member.pid().ok_or_else(|| format!("{name} does not run"))?;
            Ok(kill(pid, signal)?)
        })
    }

    pub(crate) fn runs(&self, name: &str) -> bool {
        self.with(name, |member| Ok(member.reap().is_none() && member.process.is_some())).unwrap_or(false)
    }

    /// Whether it has ended by itself, with success.
    pub(crate) fn ended_well(&self, name: &str) -> bool {
        let ended = self.with(name, |member| Ok(member.reap().or(member.ended)));
        ended.is_ok_and(|ended| ended.is_some_and(|status| status.success()))
    }

    /// Asks it to end, waits until it did, and forgets it. Anything but a clean end is a finding, but of an outlaw.
    pub(crate) fn dismiss(&self, name: &str) -> Result<()> {
        let outlaw = self.with(name, |member| {
            let outlaw = member.wanted == Wanted::Whatever;
            member.wanted = Wanted::Whatever;
            if let Some((_, stdin)) = &mut member.process {
                stdin.take();
            }
            Ok(outlaw)
        })?;
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            let (status, runs) = self.with(name, |member| Ok((member.reap(), member.process.is_some())))?;
            let wrong = match status {
                Some(status) if !status.success() => Some(format!("ended with {status} when asked to stop")),
                None if runs && Instant::now() > deadline => {
                    Some(format!("did not stop within {STOP_WITHIN:?}"))
                }
                None if runs => {
                    thread::sleep(LOOK);
                    continue;
                }
                _ => None,
            };
            if let Some(wrong) = wrong.filter(|_| !outlaw) {
                self.shared.find(name, &wrong);
            }
            break;
        }
        self.dismiss_at_once(name);
        Ok(())
    }

    /// kill -9, and forgets it.
    pub(crate) fn dismiss_at_once(&self, name: &str) {
        let mut members = self.shared.members();
        if let Some(at) = members.iter().position(|member| member.name == name) {
            members.swap_remove(at).end();
        }
    }

    /// Asks it to end if there is such a one, whatever comes of it.
    pub(crate) fn dismiss_if_there(&self, name: &str) {
        self.dismiss(name).ok();
    }

    /// Starts whoever was killed and not started again; answers their names.
    pub(crate) fn mend(&self) -> Vec<String> {
        let mut members = self.shared.members();
        let mut mended = Vec::new();
        for member in members.iter_mut().filter(|member| member.program.is_some()) {
            member.program = None;
            member.wanted = Wanted::Dying;
        }
        for member in members.iter_mut().filter(|member| member.wanted == Wanted::Dying) {
            member.end();
            member.wanted = Wanted::Running;
            if let Err(failure) = self.shared.launch(member, &[]) {
                self.shared.find(&member.name, &format!("does not start: {failure}"));
            }
            mended.push(member.name.clone());
        }
        for pid in members.iter().filter_map(Member::pid) {
            kill(pid, Signal::SIGCONT).ok();
        }
        mended
    }

    /// The names of those whose name begins so.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let members = self.shared.members();
        members.iter().map(|member| member.name.clone()).filter(|name| name.starts_with(prefix)).collect()
    }

    /// What happened that should not have.
    pub(crate) fn findings(&self) -> Vec<String> {
        self.shared.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something that should not have happened, seen by somebody else.
    pub(crate) fn find(&self, whom: &str, what: &str) {
        self.shared.find(whom, what);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            watcher.join().ok();
        }
        self.shared.members().iter_mut().for_each(Member::end);
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, member: &mut Member, env: &[(&str, &str)]) -> Result<()> {
        let log = self.directory.join(format!("{}.log", member.name));
        let log = File::options().create(true).append(true).open(log)?;
        let producer = self.lives.fetch_add(1, Ordering::Relaxed) * NUMBERS + 1;
        let program = member.program.as_ref().unwrap_or(&self.program);
        let mut command = Command::new(program);
        command.args(member.role.args(&self.directory, &self.run, producer));
        let settings = || self.settings.iter().chain(&member.settings);
        command.envs(settings().map(|(name, value)| (name, value)));
        let mut urls = settings().filter(|(name, _)| name.ends_with("DATABASE_URL"));
        if let Some((name, url)) = urls.next_back() {
            command.env(name, format!("{url}?application_name={SUBJECT}{}", member.name));
        }
        command.envs(env.iter().copied());
        // Ctrl-C in the terminal is for the campaign alone.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let stdin = child.stdin.take();
        member.process = Some((child, stdin));
        member.ended = None;
        Ok(())
    }

    /// Whoever ended by itself is a finding, and starts again.
    fn look(&self) {
        let mut members = self.members();
        for member in members.iter_mut() {
            let Some(status) = member.reap() else { continue };
            if member.wanted == Wanted::Running {
                self.find(&member.name, &format!("ended by itself: {status}"));
                if let Err(failure) = self.launch(member, &[]) {
                    self.find(&member.name, &format!("does not start: {failure}"));
                }
            }
        }
    }

    /// Notes the most memory that each had. One that has too much is a finding, once.
    fn weigh(&self) {
        let members = self.members();
        let processes: Vec<_> = members
            .iter()
            .filter_map(|member| Some((member.name.clone(), member.process.as_ref()?.0.id())))
            .collect();
        drop(members);
        for (name, pid) in processes {
            let Some(memory) = tidelock_lab::memory(pid) else { continue };
            let before = {
                let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                let most = all.entry(name.clone()).or_default();
                let before = *most;
                *most = before.max(memory.peak);
                before
            };
            if memory.peak > MOST_MEMORY && before <= MOST_MEMORY {
                let mib = |bytes: u64| bytes >> 20;
                self.find(
                    &name,
                    &format!(
                        "has {} MiB of resident memory, {} are right",
                        mib(memory.peak),
                        mib(MOST_MEMORY)
                    ),
                );
            }
        }
    }

    fn find(&self, whom: &str, what: &str) {
        let text = format!("{whom} {what}");
        self.history.note("finding", json!({ "whom": whom, "what": what })).ok();
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Member {
    fn new(name: &str, role: Role, wanted: Wanted) -> Self {
        Self {
            name: name.to_owned(),
            role,
            wanted,
            settings: Vec::new(),
            program: None,
            process: None,
            ended: None,
        }
    }

    fn pid(&self) -> Option<Pid> {
        let (child, _) = self.process.as_ref()?;
        Some(Pid::from_raw(i32::try_from(child.id()).ok()?))
    }

    /// Its status if it has just been found to have ended.
    fn reap(&mut self) -> Option<ExitStatus> {
        let (child, _) = self.process.as_mut()?;
        let status = child.try_wait().ok()??;
        self.process = None;
        self.ended = Some(status);
        Some(status)
    }

    fn end(&mut self) {
        if let Some((mut child, _)) = self.process.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
