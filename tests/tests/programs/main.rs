//! Programs as people write them: what their procedures, services and processes do, tried on Xero.
//!
//! | program tried | what happens | test |
//! |---|---|---|
//! | a `blocking` method calls `blocking_recv`, `blocking_send`, `blocking_lock`, `Handle::block_on`, `block_in_place` | as in `spawn_blocking` | [`blocking::blocking_procedure_may_do_what_a_blocking_task_may`] |
//! | a `blocking` method makes a runtime of one or several threads, runs on it and drops it, also across an `await` | the same | the same test |
//! | a `blocking` method runs another executor, awaits tasks, timers and blocking tasks | the same | the same test |
//! | all of these on a runtime of one thread | the same | [`blocking::blocking_procedure_may_do_the_same_on_a_runtime_of_one_thread`] |
//! | the caller of a `blocking` method goes while it awaits | dropped at the `await` | [`blocking::blocking_procedure_is_dropped_at_its_await_when_its_caller_goes`] |
//! | a `blocking` method panics, before an `await` or after one | `Panicked` | [`blocking::panic_of_a_blocking_procedure_is_reported_and_costs_one_call`] |
//! | the worker's runtime shuts down while a `blocking` method awaits | the call ends, the worker leaves, the method is dropped | [`blocking::blocking_procedure_whose_runtime_shuts_down_ends`] |
//! | a service owns a runtime, and flushes when it is dropped; `main` ends after `drain` | dropped on the blocking pool, before `drain` returns | [`drops::service_that_owns_a_runtime_is_dropped_before_drain_returns`] |
//! | the same on a runtime of one thread | the same | [`drops::service_is_dropped_before_drain_returns_on_a_runtime_of_one_thread`] |
//! | the same, where the settings are awaited | the same | [`drops::awaited_worker_has_dropped_its_service_when_it_returns`] |
//! | `Drop` of a service spawns and blocks on the current runtime | it is the worker's | [`drops::drop_of_a_service_finds_the_runtime_of_its_worker`] |
//! | the worker's runtime ends before the service is dropped | dropped on a thread of its own | [`drops::service_whose_runtime_has_ended_is_dropped`] |
//! | a procedure outlives the drain timeout and holds the service | `drain` returns; the service is dropped with the procedure, where it may block | [`drops::service_that_outlives_the_drain_with_a_procedure_is_dropped_where_it_may_block`] |
//! | procedures are aborted at an `await`, `inline` ones too | nothing of theirs is dropped on the I/O thread | [`cancels::aborted_procedures_drop_nothing_on_the_io_thread`] |
//! | a procedure that the drain has given up takes its time to be dropped | its service is dropped before `drain` returns | [`cancels::service_of_a_procedure_that_is_slow_to_drop_is_dropped_before_drain_returns`] |
//! | a cancelled call takes its time to be dropped, in each mode; then the worker drains | the same | [`cancels::drain_waits_for_a_cancelled_call_that_is_slow_to_drop`] |
//! | a worker that is never started, or cannot be, has a service that flushes when it is dropped; `main` ends next | dropped in place, like any value | [`drops::worker_that_never_starts_drops_what_it_serves_in_place`] |
//! | the same with the policy of a client or broker | the same; where the endpoint cannot be bound, before the error is there | [`drops::policy_of_a_client_or_broker_that_is_never_made_is_dropped_in_place`], [`drops::policy_of_a_client_or_broker_that_cannot_be_bound_is_dropped_before_the_error`] |
//! | `inline` calls that hold a value are cancelled again and again | dropped on the blocking pool, no thread for each | [`cancels::values_of_cancelled_inline_calls_are_dropped_on_the_pool`] |
//! | the same where the pool is full | dropped on a thread of its own, before `drain` returns | [`cancels::values_of_a_cancelled_inline_call_are_dropped_even_if_the_pool_is_full`] |
//! | a `blocking` call is cancelled while it waits for a thread | ends at once; the worker can leave | [`cancels::blocking_call_cancelled_while_it_waits_for_a_thread_ends_at_once`] |
//! | a `WorkerChoice` owns a runtime | dropped before `close` returns, not on the I/O thread | [`drops::policies_are_dropped_before_close_returns_and_not_on_the_io_thread`] |
//! | a broker's `WorkerChoice` waits for its broker when it is dropped | the wait returns at once | [`drops::policy_that_waits_for_its_broker_on_drop_does_not_wait_for_itself`] |
//! | the future given to `drain_on` never ends | dropped once the worker has left | [`drops::drain_signal_is_dropped_once_the_worker_has_left`] |
//! | an `inline` method spawns a task and sleeps | on the runtime of the worker, not on the I/O thread | [`drops::task_that_an_inline_method_spawns_runs_on_the_runtime_of_the_worker`] |
//! | metadata whose bytes have an owner with a `Drop` of its own | dropped by the caller | [`drops::metadata_that_the_user_owns_is_not_dropped_on_the_io_thread`] |
//! | arguments, futures and services whose `Drop` panics | arguments: `Panicked`; the others cost nothing | [`drops::panicking_drops_cost_only_their_own_call`] |
//! | two services of one worker panic when they are dropped | each is logged; the others are dropped too | [`drops::services_of_one_worker_are_all_dropped_even_if_drops_panic`] |
//! | a call is cancelled, or its runtime ends, while it holds a value whose `Drop` panics with a payload that panics again | the panic is logged with its call; nothing aborts | [`cancels::cancelled_call_whose_drop_panics_twice_aborts_no_process`], [`cancels::cancelled_call_whose_drop_panics_twice_aborts_no_process_on_a_runtime_of_one_thread`], [`cancels::runtime_that_drops_a_procedure_whose_drop_panics_twice_aborts_no_process`] |
//! | the future given to `drain_on` panics | logged; the worker or broker drains | [`drops::panicking_drain_signal_drains`] |
//! | the future given to `drain_on` panics so when it is dropped | logged | [`drops::drain_signal_whose_drop_panics_twice_aborts_no_process`] |
//! | a panic payload that is no text, panics when it is dropped, or owns a runtime | `Panicked` | [`panics::panic_with_any_payload_is_reported_with_its_text_if_any`] |
//! | such a payload uses the current runtime when it is dropped | it is the worker's, in each mode | [`panics::payload_of_a_panic_is_dropped_within_the_runtime_of_its_worker`] |
//! | a waker panics, of a call or of any wait | logged; nobody else notices | [`panics::panicking_wakers_affect_no_other_wait`] |
//! | waiting for a worker or a client under a paused clock | takes real time | [`waits::waits_take_real_time_under_a_paused_clock`], [`waits::worker_and_client_find_each_other_under_a_paused_clock`] |
//! | a client in a program without any runtime | works | [`waits::client_waits_and_calls_without_any_runtime`] |
//! | waits of an hour are given up | the client closes at once | [`waits::abandoned_wait_does_not_keep_a_client_from_closing`] |
//! | a process forks with a client, worker, broker and call of its own | in the child each says so at once; the parent goes on | [`forks::handles_of_the_parent_fail_at_once_in_a_forked_child`] |
//! | a process forks within a runtime of one thread, which both go on with and drop | the same | [`forks::handles_of_the_parent_fail_at_once_in_a_child_forked_within_a_runtime`] |
//! | a forked child makes a client and a worker | they work | the same test |
//! | the I/O thread of a client or broker panics | everything asked of it ends at once; `Crashed` | [`crashes::everything_asked_of_a_client_whose_io_thread_dies_ends_at_once_with_the_reason`], [`crashes::everything_asked_of_a_broker_whose_io_thread_dies_ends_at_once`] |
//! | no thread can be had: a handle is made | its `Thread` error | [`shortages::handles_without_a_thread_fail_with_an_error`] |
//! | no thread can be had: a `blocking` call comes | not started; the worker goes on | [`shortages::blocking_call_without_a_thread_is_not_started_and_the_worker_continues`] |
//! | no thread can be had: a worker drains, also where the pool is full | its service is dropped before `drain` returns | [`shortages::service_is_dropped_before_drain_returns_even_without_new_threads`] |
//! | no thread can be had: an `inline` call is cancelled | what it holds is dropped once there are threads | [`shortages::values_of_a_cancelled_inline_call_wait_for_a_thread`] |
//! | no thread can be had: a name is dialed, or bound | dialed again; an error | [`shortages::name_look_up_without_a_thread_is_repeated`] |
//! | a method awaits `drain` of its own worker: in a task, `inline`, `blocking`, by `block_on`, twice, in a task that nobody waits for | it replies, and the worker leaves | [`drains::method_that_drains_its_own_worker_replies_and_the_worker_leaves`] |
//! | the same while another call runs | waits for that call | [`drains::drain_within_a_method_waits_for_the_other_calls`] |
//! | several methods await `drain` or `left`, and a caller outside too | none waits for another | [`drains::calls_that_drain_at_the_same_time_do_not_wait_for_each_other`] |
//! | a method drains while a request waits for its place | replies; then the request runs | [`drains::draining_method_does_not_wait_for_a_queued_call`] |
//! | a `blocking` method drains while another call waits for its thread, or is cancelled there | replies; then the call runs | [`drains::draining_blocking_method_does_not_wait_for_a_call_without_a_thread`] |
//! | a method blocks on a runtime with a task of the program's own, which awaits `left` | that task waits for the method | [`drains::task_polled_while_a_method_blocks_does_not_count_as_the_method`] |
//! | a method gives up its wait for the drain, or is cancelled in it | the drain goes on | [`drains::drain_continues_when_its_method_stops_waiting`], [`drains::drain_waits_for_a_call_that_stopped_waiting_for_it`], [`drains::call_that_drains_and_is_cancelled_lets_the_worker_leave`] |
//! | a service drains its worker when it is dropped | the drain does not wait for the drop | [`drains::service_that_drains_its_worker_on_drop_does_not_wait_for_itself`] |
//! | a method drains another worker | waits for all of its calls | [`drains::method_that_drains_another_worker_waits_for_all_of_its_calls`] |
//! | a procedure of each mode logs, panics, or logs when it is dropped | each line names its call | `tests/tests/spans.rs`, a program of its own |

// Procedures are part of the tests.
#![allow(clippy::unwrap_used)]

mod blocking;
mod cancels;
mod crashes;
mod drains;
mod drops;
mod forks;
mod panics;
mod shortages;
mod waits;
