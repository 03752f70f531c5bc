//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR: what a session's copies of values are to be told. The subcommands
//! are declared in `client.rs`.

use crate::args::Args;
use crate::command::Reply;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::tracking::{self, Mode, Tracks};

const SWITCHED_BROADCAST: Error = Error::text(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
     different mode.",
);
const SWITCHED_OPTION: Error = Error::text(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
     different mode.",
);

/// What CLIENT TRACKING was given.
#[derive(Default)]
struct Options<'a> {
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    redirect: u64,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(ctx: &Ctx, mut rest: &[&'a [u8]]) -> Result<Options<'a>> {
        let mut options = Options::default();
        while let [option, after @ ..] = rest {
            rest = after;
            match option.to_ascii_uppercase().as_slice() {
                b"BCAST" => options.broadcast = true,
                b"OPTIN" => options.opt_in = true,
                b"OPTOUT" => options.opt_out = true,
                b"NOLOOP" => options.noloop = true,
                b"PREFIX" if !rest.is_empty() => {
                    options.prefixes.push(rest[0]);
                    rest = &rest[1..];
                }
                b"REDIRECT" if !rest.is_empty() => {
                    if options.redirect != 0 {
                        return Err(Error::text("ERR A client can only redirect to a single other client"));
                    }
                    options.redirect = redirect_to(ctx, rest[0])?;
                    rest = &rest[1..];
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }

    /// Whether the options fit each other and how the session tracks already.
    fn check(&self, before: Option<&Tracks>) -> Result<Mode> {
        if !self.broadcast && !self.prefixes.is_empty() {
            return Err(Error::text("ERR PREFIX option requires BCAST mode to be enabled"));
        }
        if before.is_some_and(|before| (before.mode == Mode::Broadcast) != self.broadcast) {
            return Err(SWITCHED_BROADCAST);
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return Err(Error::text("ERR OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.opt_in && self.opt_out {
            return Err(Error::text("ERR You can't specify both OPTIN mode and OPTOUT mode"));
        }
        let was = |mode: Mode| before.is_some_and(|before| before.mode == mode);
        if (self.opt_in && was(Mode::OptOut)) || (self.opt_out && was(Mode::OptIn)) {
            return Err(SWITCHED_OPTION);
        }
        check_prefixes(&self.prefixes, before.map_or(&[], |before| &before.prefixes))?;
        Ok(match (self.broadcast, self.opt_in, self.opt_out) {
            (true, ..) => Mode::Broadcast,
            (_, true, _) => Mode::OptIn,
            (_, _, true) => Mode::OptOut,
            _ => Mode::All,
        })
    }
}

/// The connected client that invalidations are to go to.
fn redirect_to(ctx: &Ctx, word: &[u8]) -> Result<u64> {
    let id = kelda_resp::number::parse_i64(word).ok_or(Error::NotInteger)?;
    let id = u64::try_from(id).ok().filter(|id| ctx.worker.engine.clients.get(*id).is_some());
    id.ok_or(Error::text("ERR The client ID you want redirect to does not exist"))
}

/// Refuses prefixes of which one begins with another: a change would be told twice.
fn check_prefixes(fresh: &[&[u8]], before: &[Box<[u8]>]) -> Result {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let refuse = |prefix: &[u8], what: &str, other: &[u8]| {
        let (prefix, other) = (String::from_utf8_lossy(prefix), String::from_utf8_lossy(other));
        Err(Error::owned(format!(
            "ERR Prefix '{prefix}' overlaps with {what} prefix '{other}'. Prefixes for a single client must not overlap."
        )))
    };
    for (place, prefix) in fresh.iter().enumerate() {
        if let Some(other) = before.iter().find(|other| overlap(prefix, other)) {
            return refuse(prefix, "an existing", other);
        }
        if let Some(other) = fresh[place + 1..].iter().find(|other| overlap(prefix, other)) {
            return refuse(prefix, "another provided", other);
        }
    }
    Ok(())
}

/// CLIENT TRACKING.
pub(super) fn tracking(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let options = Options::parse(ctx, args.from(3))?;
    if args.is(2, "on") {
        let before = ctx.session.tracking.as_deref();
        let mode = options.check(before)?;
        let mut prefixes: Vec<Box<[u8]>> = options.prefixes.iter().map(|prefix| Box::from(*prefix)).collect();
        if options.broadcast && prefixes.is_empty() {
            prefixes.push(Box::from(&b""[..]));
        }
        let Options { noloop, redirect, .. } = options;
        let caching = before.is_some_and(|before| before.caching);
        let tracks = Tracks { mode, noloop, redirect, broken: false, caching, prefixes };
        tracking::start(ctx.worker, ctx.session, tracks);
    } else if args.is(2, "off") {
        tracking::stop(ctx.worker, ctx.session);
    } else {
        return Err(Error::Syntax);
    }
    reply.ok();
    Ok(())
}

/// CLIENT CACHING.
pub(super) fn caching(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let Some(tracks) = &mut ctx.session.tracking else {
        return Err(Error::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    let wanted = match (args.is(2, "yes"), args.is(2, "no")) {
        (true, _) => Mode::OptIn,
        (_, true) => Mode::OptOut,
        _ => return Err(Error::Syntax),
    };
    if tracks.mode != wanted {
        return Err(Error::text(if wanted == Mode::OptIn {
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
        } else {
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
        }));
    }
    tracks.caching = true;
    reply.ok();
    Ok(())
}

/// The client that a session's invalidations go to: 0 for itself, -1 when there are none.
fn redirect(tracks: Option<&Tracks>) -> i64 {
    tracks.map_or(-1, |tracks| tracks.redirect as i64)
}

/// CLIENT GETREDIR.
pub(super) fn get_redirect(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    reply.int(redirect(ctx.session.tracking.as_deref()));
    Ok(())
}

/// CLIENT TRACKINGINFO.
pub(super) fn info(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let tracks = ctx.session.tracking.as_deref();
    let is = |mode: Mode| tracks.is_some_and(|tracks| tracks.mode == mode);
    let caching = tracks.is_some_and(|tracks| tracks.caching);
    let flags = [
        (tracks.is_none(), "off"),
        (tracks.is_some(), "on"),
        (is(Mode::Broadcast), "bcast"),
        (is(Mode::OptIn), "optin"),
        (is(Mode::OptIn) && caching, "caching-yes"),
        (is(Mode::OptOut), "optout"),
        (is(Mode::OptOut) && caching, "caching-no"),
        (tracks.is_some_and(|tracks| tracks.noloop), "noloop"),
        (tracks.is_some_and(|tracks| tracks.broken), "broken_redirect"),
    ];
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.iter().filter(|(is, _)| *is).count());
    flags.iter().filter(|(is, _)| *is).for_each(|(_, flag)| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.int(redirect(tracks));
    reply.bulk(b"prefixes");
    let mut prefixes: Vec<&[u8]> = tracks.iter().flat_map(|tracks| &tracks.prefixes).map(|prefix| &**prefix).collect();
    prefixes.sort_unstable();
    reply.array(prefixes.len());
    prefixes.into_iter().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}
