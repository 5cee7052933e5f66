"""Copies history, pages through it, and follows live bars over any number of cuts.

    python client.py 127.0.0.1:50051 --history NYSE:IBM --live CME:ES
"""

import argparse
import itertools
import os
import random
import sys
import time
import uuid

import grpc
from google.rpc import error_details_pb2 as details_pb
from grpc_status import rpc_status

from pocketquant.v1 import common_pb2 as common
from pocketquant.v1 import market_data_pb2 as market
from pocketquant.v1 import market_data_pb2_grpc, quote_stream_pb2_grpc
from pocketquant.v1 import quote_stream_pb2 as quotes

# A server that is gone is noticed, and looked for every few seconds.
CHANNEL = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]
# What waiting may mend. Everything else is an answer, and stays what it is.
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


def metadata(**more):
    # The id is on every log line of the call, and comes back with the answer.
    headers = {"x-correlation-id": f"example-{uuid.uuid4()}", **more}
    if key := os.environ.get("POCKETQUANT_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    return [(name.replace("_", "-"), value) for name, value in headers.items()]


def explain(error):
    """The reason that a program decides by, what belongs to it, and how long to wait, in seconds."""
    reason, facts, wait = error.code().name, {}, None
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, retry = details_pb.ErrorInfo(), details_pb.RetryInfo()
        if detail.Unpack(info):
            reason, facts = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            wait = retry.retry_delay.ToTimedelta().total_seconds()
    return reason, facts, wait


def pause(wait, attempt):
    """As long as the server asks for; where it says nothing, longer each time, and never alike."""
    backoff = min(0.2 * 2**attempt, 30) * random.uniform(0.5, 1)
    time.sleep(backoff if wait is None else wait)


def call(method, request, timeout, **headers):
    """Calls until there is an answer; at most six times."""
    for attempt in itertools.count():
        try:
            return method(request, timeout=timeout, metadata=metadata(**headers))
        except grpc.RpcError as error:
            if attempt == 5 or error.code() not in PASSING:
                raise
            pause(explain(error)[2], attempt)


def pages(client, symbol, interval):
    """All stored bars, oldest first."""
    request = market.GetBarsRequest(
        symbol=symbol, interval=interval, limit=1_000, order=common.BAR_ORDER_OLDEST_FIRST
    )
    while True:
        page = call(client.GetBars, request, timeout=10)
        yield from page.bars
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def follow(client, symbol, interval):
    """Bars as they close and are corrected, none missed. One may come twice around a cut."""
    request = quotes.StreamBarsRequest(symbols=[symbol], intervals=[interval])
    attempt = 0
    while True:
        try:
            for event in client.StreamBars(request, metadata=metadata()):
                if event.HasField("bar"):
                    yield event.bar.bar
                # Only now, as the bar is dealt with: the next stream goes on behind it.
                request.resume_cursor, attempt = event.cursor, 0
        except grpc.RpcError as error:
            reason, facts, wait = explain(error)
            if reason == "CURSOR_EXPIRED":  # away for longer than the log is kept: GetBars has the rest
                request.resume_cursor = facts["earliest_cursor"]
            elif error.code() not in PASSING:
                raise
            print(f"cut off: {reason}", file=sys.stderr, flush=True)
            pause(wait, attempt)
            attempt += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--history", default="NYSE:IBM")
    parser.add_argument("--live", default="CME:ES")
    args = parser.parse_args()
    channel = grpc.insecure_channel(args.server, CHANNEL)
    market_data = market_data_pb2_grpc.MarketDataStub(channel)
    quote_stream = quote_stream_pb2_grpc.QuoteStreamStub(channel)

    # One key for one intent: however often it is sent, the sync is carried out once.
    request = market.SyncSymbolRequest(symbol=args.history, interval=common.INTERVAL_1D, full_history=True)
    synced = call(market_data.SyncSymbol, request, timeout=60, idempotency_key=str(uuid.uuid4()))
    print(f"synced {synced.symbol}: {synced.bars_fetched} fetched, {synced.total_bars} stored")

    bars = list(pages(market_data, args.history, common.INTERVAL_1D))
    print(f"read {len(bars)} bars, the newest closed at {bars[-1].close}", flush=True)

    try:
        request = market.SyncSymbolRequest(symbol="NYSE:NOPE", interval=common.INTERVAL_1D)
        call(market_data.SyncSymbol, request, timeout=60)
    except grpc.RpcError as error:
        print(f"refused: {error.code().name} {explain(error)[0]}", flush=True)

    newest = {}
    for bar in follow(quote_stream, args.live, common.INTERVAL_1M):
        # A higher revision replaces a lower one; an equal one is the same bar again.
        if bar.revision > newest.get(bar.open_time.seconds, 0):
            newest[bar.open_time.seconds] = bar.revision
            opened = bar.open_time.ToJsonString()
            print(f"bar {opened} {bar.open} {bar.high} {bar.low} {bar.close} {bar.volume} #{bar.revision}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()} ({explain(error)[0]})")
