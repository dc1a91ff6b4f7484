"""Whether this machine can stand in line as [inline] says. Nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from appliance.check.findings import Finding, error, ok, warning
from appliance.config import Config


def findings(config: Config) -> Iterator[Finding]:
    if config.inline is None:
        return
    what = "in line"
    if os.geteuid() != 0:
        yield warning(what, "only root can see what is in the way; run this as root too")
        return
    # Netlink is loaded only where it is needed.
    from appliance.inline import standing
    from appliance.inline.kernel import KernelRefuses, kernel
    from appliance.inline.plan import Problem, problems

    settings = config.inline
    try:
        with kernel() as at_kernel:
            stood = standing.standing(config.state_dir)
            found = list(problems(config, at_kernel, made_here=stood is not None))
            if stood is not None:
                lost = "what stands in line was taken away by others: {}; put it back with: locum inline up"
                found += [Problem(lost.format(words)) for words in standing.lost(stood, at_kernel)]
    except KernelRefuses as refusal:
        yield error(what, str(refusal))
        return
    for each in found:
        yield (error if each.fatal else warning)(what, each.text)
    if not any(each.fatal for each in found):
        where = f"as a {settings.mode} between {settings.copier_side} and {settings.server_side}"
        stands = stood is not None and stood.diverts
        yield ok(what, f"stands {where}" if stands else f"can stand {where}; to do so: locum inline up --confirm")
        if stands and standing.gone_at_boot():
            yield warning(what, standing.AT_BOOT)
