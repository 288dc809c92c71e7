-- Each row returned is a partition of which records are lost, or there twice.
select
    topic,
    partition,
    records_received,
    records_loaded,
    records_rejected,
    records_purged
from {{ ref('reconciliation') }}
where not is_balanced
