"""Reserves a place with the service config of docs/, and prints what came of it.

usage: retry.py ADDRESS STUBS EVENT USER SERVICE_CONFIG
"""

import sys

address, stubs, event, user, config = sys.argv[1:]
sys.path.insert(0, stubs)

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from reservd.v1 import reservation_service_pb2, reservation_service_pb2_grpc

with open(config, encoding="utf-8") as file:
    options = [("grpc.service_config", file.read()), ("grpc.enable_retries", 1)]

with grpc.insecure_channel(address, options=options) as channel:
    client = reservation_service_pb2_grpc.ReservationServiceStub(channel)
    request = reservation_service_pb2.ReserveRequest(event_id=event, user_id=user, quantity=1)
    try:
        answer = client.Reserve(request, timeout=30)
        print("reserved", answer.reservation.user_id)
    except grpc.RpcError as error:
        reasons = []
        for detail in rpc_status.from_call(error).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                reasons.append(info.reason)
        print(error.code().name, *reasons)
