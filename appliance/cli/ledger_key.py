"""`locum ledger key` and `locum ledger sign`: whose signatures these are, and one more of them now."""

import base64
import json
from pathlib import Path

import click

from appliance.cli.common import Failed, appliance_options, json_option
from appliance.ledger_access import change
from appliance.state_dir import StateDirError, public_key


@click.command()
@appliance_options
@click.option("--pem", is_flag=True, help="Print the key in PEM and nothing else.")
@json_option
def key(state_dir: Path, pem: bool, as_json: bool) -> None:
    """Show the public key that this installation's ledger is signed with.

    Write it down, or have it signed for: who verifies a ledger compares with it, because a key that stands in the file
    itself could be anybody's. The appliance need not run.

    Example: locum ledger key --pem > locum.pub
    """
    if pem and as_json:
        raise click.UsageError("give --pem or --json, not both")
    try:
        found = public_key(state_dir)
    except StateDirError as error:
        raise Failed(str(error)) from error
    from storage.signing import installation_of, public_pem

    told = {"public_key": base64.b64encode(found).decode(), "installation": installation_of(found)}
    if pem:
        click.echo(public_pem(found), nl=False)
    elif as_json:
        click.echo(json.dumps({**told, "pem": public_pem(found)}, indent=2))
    else:
        click.echo(f"public key    {told['public_key']}")
        click.echo(f"installation  {told['installation']}")
        click.echo("PEM           locum ledger key --pem")


@click.command()
@appliance_options
@json_option
def sign(state_dir: Path, as_json: bool) -> None:
    """Sign the ledger as it is now, and print the checkpoint.

    Keep the line elsewhere: `locum ledger verify FILE --witness LINE` then shows whether a ledger was cut or replaced.
    If nothing is new since the last checkpoint, that one is printed. The appliance may run or not.

    Example: locum ledger sign >> checkpoints.txt
    """
    answer = change(state_dir, "ledger-sign")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif answer.get("line") is None:
        raise Failed("the ledger has no entries yet; there is nothing to sign")
    else:
        click.echo(str(answer["line"]))
