"""`locum doctor`: what a helper needs to see, in one file, without secrets."""

import time
from pathlib import Path

import click

from appliance.cli.common import Failed, config_option
from appliance.cli.words import size


@click.command()
@config_option
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="The state directory instead of the one named."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The archive to write: locum-doctor-TIME.tar.gz here, if it is not given.",
)
def doctor(config: Path, state_dir: Path | None, output: Path | None) -> None:
    """Gather what a helper needs to see, without secrets.

    Configuration, `locum check`, status, versions, the log, disk and network go into one archive that only you may
    read. Secrets, codes, cards and users are left out. Nothing is changed, and nothing is sent anywhere. Run it as
    root: what may not be read is missing.

    Example: locum doctor --output for-support.tar.gz
    """
    from appliance.doctor import archive

    file = output or Path(time.strftime("locum-doctor-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime()))
    if file.exists():
        raise Failed(f"{file} is there already; name another with --output")
    contents = archive.gathered(
        config, state_dir and state_dir.absolute(), lambda part: click.echo(f"{part.name:<14} {part.about}")
    )
    try:
        taken = archive.write(file, contents.items())
    except OSError as error:
        raise Failed(f"{file} cannot be written ({error.strerror}); name another with --output") from None
    click.echo(f"Wrote {file} ({size(taken)}). Secrets are taken out; look through it before you send it.")
