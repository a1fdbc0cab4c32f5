// The messages of `kv.proto`, `routing.proto` and the details of errors, read from the .proto files of this package.
// Their types are generated while it is built.

import * as path from "node:path";

import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition } from "@grpc/proto-loader";

import type { Status__Output } from "./generated/google/rpc/Status";
import type { ProtoGrpcType } from "./generated/routing";

const PROTOS = ["stator/v1/kv.proto", "stator/v1/routing.proto", "google/rpc/details.proto"];

const definition = loadSync(PROTOS, {
  includeDirs: [path.join(__dirname, "..", "proto")],
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
  // Details of errors are unpacked.
  json: true,
});

export const { v1 } = (loadPackageDefinition(definition) as unknown as ProtoGrpcType).stator;

export const Status = definition["google.rpc.Status"] as MessageTypeDefinition<
  object,
  Status__Output
>;
