-- For telling an answer that names the message which another delivery became.
CREATE INDEX delivery_message ON delivery (server_message_id) WHERE server_message_id IS NOT NULL;
