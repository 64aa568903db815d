from benchmarks.report.profiles import LOOP, Profile, function


def test_a_function_is_told_by_its_name_and_the_end_of_its_path() -> None:
    assert function("seal (/a/b/cloister/seal/hpke.py:17)") == "seal (seal/hpke.py)"
    assert function("_poll_wrapper (grpc/_cython/cygrpc.pyx)") == "_poll_wrapper (_cython/cygrpc.pyx)"


def test_shares_are_of_all_stacks_and_recursion_counts_once() -> None:
    lines = ["main (a/m.py:1);walk (a/m.py:2);walk (a/m.py:2) 3", "main (a/m.py:1) 1"]
    profile = Profile.of(lines)
    assert profile.itself == {"walk (a/m.py)": 0.75, "main (a/m.py)": 0.25}
    assert profile.within == {"main (a/m.py)": 1.0, "walk (a/m.py)": 0.75}


def test_what_runs_the_loop_and_a_poller_that_waits_are_left_out() -> None:
    run = "<module> (bin/gateway:1);Runner.run (asyncio/runners.py:9)"
    lines = [
        f"{run} 2",
        f"{run};read (a/wire.py:3) 2",
        "Thread._bootstrap (threading.py:5);Thread.run (threading.py:7) 96",
    ]
    profile = Profile.of(lines)
    assert profile.itself == {LOOP: 0.5, "read (a/wire.py)": 0.5}
    assert profile.within == profile.itself


def test_nothing_sampled_is_an_empty_profile() -> None:
    assert Profile.of([]) == Profile({}, {})
