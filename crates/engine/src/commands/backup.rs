//! BACKUP, as in Redis 8.10.

use crate::command::{Command, Flags, Group};

const BASE: Command = Command { group: Group::Server, complexity: "O(1)", ..Command::BASE };
const CHANGE: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_MULTI);
const LOOK: Flags = Flags::ADMIN.and(Flags::STALE);
const SINCE: &str = "8.10.0";

/// The family.
pub static COMMANDS: &[Command] = &[BASE.container(
    "BACKUP",
    SINCE,
    "Container of commands that back the data up while the server runs.",
    &[
        BASE.session(
            "START",
            2,
            CHANGE,
            SINCE,
            "",
            "Begins a backup in the directory backupdirname.",
            |ctx, _, reply| {
                ctx.engine().backups.start(&ctx.engine())?;
                reply.ok();
                Ok(())
            },
        ),
        BASE.session(
            "SEAL",
            2,
            CHANGE,
            SINCE,
            "",
            "Completes the backup: its files do not change any more.",
            |ctx, _, reply| {
                ctx.engine().backups.seal(&ctx.engine())?;
                reply.ok();
                Ok(())
            },
        ),
        BASE.session("ABORT", 2, CHANGE, SINCE, "", "Gives up a backup that is not sealed.", |ctx, _, reply| {
            ctx.engine().backups.abort(&ctx.engine())?;
            reply.ok();
            Ok(())
        }),
        BASE.session("CLEANUP", 2, CHANGE, SINCE, "", "Removes the files of a sealed backup.", |ctx, _, reply| {
            ctx.engine().backups.clean_up(&ctx.engine())?;
            reply.ok();
            Ok(())
        }),
        BASE.session(
            "LIST",
            2,
            LOOK,
            SINCE,
            "",
            "Lists the files that belong to the backup so far.",
            |ctx, _, reply| {
                let files = ctx.engine().backups.files(&ctx.engine());
                reply.array(files.len());
                files.iter().for_each(|file| reply.bulk(file.to_string_lossy().as_bytes()));
                Ok(())
            },
        ),
        BASE.session("STATUS", 2, LOOK, SINCE, "", "Tells how far the backup is.", |ctx, _, reply| {
            let status = ctx.engine().backups.status();
            reply.map(4);
            let (start, end) = (status.start_s.to_string(), status.end_s.to_string());
            for (field, text) in [
                ("state", status.phase.word()),
                ("error", status.error.as_str()),
                ("start_time", start.as_str()),
                ("end_time", end.as_str()),
            ] {
                reply.bulk(field.as_bytes());
                reply.bulk(text.as_bytes());
            }
            Ok(())
        }),
        BASE.session(
            "HELP",
            2,
            Flags::LOADING.and(Flags::STALE),
            SINCE,
            "",
            "Explains the subcommands.",
            |_, _, reply| {
                super::help(
                    reply,
                    "BACKUP",
                    &[
                        ("START", "Begins a backup in the directory backupdirname, which must be empty."),
                        ("SEAL", "Completes it, with all that was written so far."),
                        ("ABORT", "Gives it up."),
                        ("STATUS", "Tells how far it is."),
                        ("LIST", "Lists its files; they do not change any more."),
                        ("CLEANUP", "Removes a sealed one."),
                    ],
                );
                Ok(())
            },
        ),
    ],
)];
