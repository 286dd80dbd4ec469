//! The tables as diesel sees them; `migrations/sqlite` is the truth.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! { installation (id) {
    id -> BigInt, name -> Text, blind_key_check -> Binary, copied_at -> Nullable<BigInt>, restored_at -> Nullable<BigInt>, restored_after_run -> Nullable<BigInt>,
    planned_routes -> Nullable<Text>, planned_after_run -> Nullable<BigInt>,
} }
table! { epoch (id) { id -> BigInt, started_at -> BigInt, pid -> BigInt, version -> Text, } }
table! { portal (id) {
    id -> BigInt, name -> Text, token -> Nullable<Binary>, token_obtained_at -> Nullable<BigInt>, rests_until -> Nullable<BigInt>,
    rest_cause -> Nullable<Text>, asked_until -> Nullable<BigInt>, budget_use -> Nullable<Text>, contests -> BigInt,
    contested_at -> Nullable<BigInt>, grant_token -> Nullable<Binary>, grant_obtained_at -> Nullable<BigInt>, grant_ends_at -> Nullable<BigInt>,
} }
table! { login (portal_id, at) { portal_id -> BigInt, at -> BigInt, } }
table! { event (id) { id -> BigInt, portal_id -> BigInt, received_at -> BigInt, method -> Text, content_type -> Text, body -> Binary, day -> BigInt, } }
table! { intake (id) { id -> BigInt, last_event_id -> BigInt, } }
table! { reading (event_id, position) { event_id -> BigInt, position -> BigInt, name -> Text, subject_id -> Nullable<BigInt>, disposition -> Text, dedupe -> Binary, oddity -> Nullable<Text>, } }
table! { subject (id) { id -> BigInt, portal_id -> BigInt, kind -> Text, lms_id -> Text, last_read_at -> Nullable<BigInt>, absent_until -> Nullable<BigInt>, } }
table! { mark (subject_id) { subject_id -> BigInt, generation -> BigInt, due_at -> BigInt, tries -> BigInt, lane -> Text, portal_id -> BigInt, } }
table! { calendar (subject_id) { subject_id -> BigInt, due_at -> BigInt, } }
table! { staged (lms_id, run_id, row_id) { run_id -> BigInt, lms_id -> Text, row_id -> Text, row -> Binary, } }
table! { listing (id) { id -> BigInt, portal_id -> BigInt, name -> Text, sorting -> Text, pages -> BigInt, } }
table! { listed (listing_id, row_key) { listing_id -> BigInt, row_key -> Binary, learner -> Binary, digest -> Binary, } }
table! { promise (id) {
    id -> BigInt, subject_id -> BigInt, event_id -> BigInt, record_kind -> Text, received_at -> BigInt, tries -> BigInt, state -> Text,
    thing -> Nullable<Text>, by_admin -> Nullable<Text>,
} }
table! { person (id) {
    id -> BigInt, subject_id -> BigInt, portal_id -> BigInt, profile -> Nullable<Binary>, profile_digest -> Binary,
    external_id_index -> Nullable<Binary>, email_index -> Nullable<Binary>, name_index -> Nullable<Binary>, state -> Text, read_version -> BigInt,
} }
table! { record (id) {
    id -> BigInt, person_id -> BigInt, kind -> Text, key -> Text, facts -> Binary, fingerprint -> Binary, fingerprint_version -> BigInt,
    course_id -> Nullable<Text>, read_version -> BigInt, achieved_on -> Nullable<BigInt>, state -> Text, state_since -> BigInt,
} }
table! { destination (id) {
    id -> BigInt, name -> Text, connector -> Text, account -> Nullable<Text>, first_seen_at -> BigInt, state -> Text, pause_cause -> Nullable<Text>,
    paused_until -> Nullable<BigInt>, failures -> BigInt, failed_persons -> Text, doubt_before -> Nullable<BigInt>, pause_reason -> Nullable<Text>,
} }
table! { route (id) { id -> BigInt, destination_id -> BigInt, name -> Text, mode -> Text, } }
table! { mapping_version (id) { id -> BigInt, route_id -> BigInt, digest -> Text, first_seen_at -> BigInt, } }
table! { link (destination_id, person_id) {
    destination_id -> BigInt, person_id -> BigInt, state -> Text, remote_person -> Nullable<Text>, rule -> Nullable<Text>,
    candidates -> Nullable<Text>, checked_at -> BigInt, is_pinned -> BigInt,
} }
table! { delivery (id) {
    id -> BigInt, destination_id -> BigInt, route_id -> BigInt, slot -> Text, person_id -> BigInt, record_id -> BigInt, state -> Text,
    cause -> Nullable<Text>, cause_detail -> Nullable<Text>, due_at -> Nullable<BigInt>, wanted -> Text, wanted_fingerprint -> Binary,
    wanted_mapping_id -> Nullable<BigInt>, wanted_at -> BigInt, held_person -> Nullable<Text>, held_row -> Nullable<Text>,
    held_fields_digest -> Nullable<Binary>, held_fingerprint -> Nullable<Binary>, held_mapping_id -> Nullable<BigInt>, held_at -> Nullable<BigInt>,
    receipt -> Nullable<Binary>, receipt_status -> Nullable<BigInt>, sending_epoch -> Nullable<BigInt>, sending_at -> Nullable<BigInt>,
    tries -> BigInt, attempts -> BigInt, sending_person -> Nullable<Text>,
} }
table! { delivery_queue (destination_id, due_at, delivery_id) { destination_id -> BigInt, due_at -> BigInt, delivery_id -> BigInt, } }
table! { attempt (id) {
    id -> BigInt, delivery_id -> BigInt, epoch_id -> BigInt, number -> BigInt, action -> Text, started_at -> BigInt, finished_at -> BigInt,
    outcome -> Text, status -> Nullable<BigInt>, remote_row -> Nullable<Text>, words -> Nullable<Binary>, words_digest -> Binary,
    fields_digest -> Nullable<Binary>, previous_hash -> Binary, hash -> Binary,
} }
table! { forgotten (name, at) { name -> Text, at -> BigInt, } }
table! { chain_link (attempt_id) { attempt_id -> BigInt, previous_hash -> Binary, hash -> Binary, } }
table! { webhook_health (portal_id, day, record_kind) { portal_id -> BigInt, day -> BigInt, record_kind -> Text, tally -> Text, } }
table! { webhook_hour (portal_id, hour) { portal_id -> BigInt, hour -> BigInt, minutes -> BigInt, last_at -> BigInt, } }
table! { run (id) {
    id -> BigInt, kind -> Text, portal_id -> Nullable<BigInt>, state -> Text, started_at -> BigInt, finished_at -> Nullable<BigInt>,
    next_page -> BigInt, counts -> Text, destination_id -> Nullable<BigInt>, cause -> Nullable<Text>,
} }
table! { applied_plan (seal) { seal -> Binary, run_id -> BigInt, } }
table! { planned (run_id, position) {
    run_id -> BigInt, position -> BigInt, delivery_id -> BigInt, wanted -> Binary, held -> Nullable<Binary>,
} }
table! { holding (delivery_id) { delivery_id -> BigInt, state -> Binary, } }
table! { finding (id) {
    id -> BigInt, run_id -> BigInt, delivery_id -> Nullable<BigInt>, class -> Text, object -> Text, row -> Nullable<Text>, mark -> Nullable<Text>,
    fields -> Text, action -> Text, held_at -> Nullable<BigInt>, person -> Nullable<Text>,
} }
table! { target_row (run_id, object, row) {
    run_id -> BigInt, object -> Text, row -> Text, person -> Nullable<Text>, slot -> Nullable<Text>, mark -> Nullable<Text>,
    digest -> Nullable<Binary>, fields -> Nullable<Binary>,
} }

joinable!(delivery -> record (record_id));
joinable!(record -> person (person_id));
joinable!(delivery -> person (person_id));
joinable!(person -> subject (subject_id));
joinable!(mark -> subject (subject_id));
joinable!(event -> portal (portal_id));
joinable!(delivery -> route (route_id));
joinable!(run -> portal (portal_id));
joinable!(holding -> delivery (delivery_id));
joinable!(finding -> delivery (delivery_id));
joinable!(planned -> delivery (delivery_id));
joinable!(applied_plan -> run (run_id));
allow_tables_to_appear_in_same_query!(
    applied_plan,
    attempt,
    delivery,
    delivery_queue,
    destination,
    epoch,
    event,
    finding,
    holding,
    link,
    listed,
    login,
    mapping_version,
    mark,
    person,
    planned,
    portal,
    promise,
    reading,
    record,
    route,
    run,
    subject,
    target_row
);
