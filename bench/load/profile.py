"""Where a server spends its time during a row, by py-spy where that is installed."""

import asyncio
import time
from pathlib import Path

from bench.load.rows.base import Row, Scale
from bench.load.town import Town

_RATE_PER_S = 400


async def profile_row(row_type: type[Row], town: Town, scale: Scale, seconds: float, folder: Path) -> Path:
    """Do the row again and again for about so many seconds; the file with the stacks and how often each was seen.

    What `prepare` and `finish` do in between is in it as well. One line each: "function (file:line);... count".
    """
    row = row_type(town, scale)
    await row.set_up()
    await row.prepare()
    path = folder / f"{row_type.name}.{town.server.name}.txt"
    command = ["record", "--pid", str(town.server.pid), "--output", str(path), "--format", "raw"]
    command += ["--rate", str(_RATE_PER_S), "--duration", "3600", "--native"]
    process = await asyncio.create_subprocess_exec(
        "py-spy", *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + seconds
        while True:
            await row.run()
            if time.monotonic() > deadline or process.returncode is not None:
                break
            if not row.is_repeatable:
                await row.finish()
                await row.prepare()
    finally:
        if process.returncode is None:
            process.send_signal(2)
        await process.wait()
        await row.finish()
        await row.tear_down()
    return path
