"""`cloister provisioner`: what an operator does with the key provisioner itself."""

from __future__ import annotations

import typer

from cloister.cli import resume_command, root_key_commands
from cloister.cli.options import examples

app = typer.Typer(help="The key provisioner itself: its state, and its root key.", no_args_is_help=True)


@app.callback()
def provisioner() -> None:
    """The key provisioner itself: its state, and its root key."""


app.command("status", epilog=examples("cloister provisioner status"))(root_key_commands.status)
app.command("rotate-root", epilog=examples("cloister provisioner rotate-root"))(root_key_commands.rotate_root)
app.command(
    "resume",
    epilog=examples("cloister provisioner resume --have 812 --should 840 --reason 'disk lost, backup of Monday'"),
)(resume_command.resume)
